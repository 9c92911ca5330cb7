"""The learning rates of PyTorch's and transformers' schedulers, for crates/train/src/schedule.rs: schedules.py > OUT.

Writes a JSON list of {"name", "schedule", "peak", "from", "rates"}: the fields of a job's schedule, and the rate of each step
from step `from` on. transformers warms up from step 0 at the minimum, ours reaches the peak at the warm-up's last step, so
that its rates are compared from the end of the warm-up on.
"""

import json
import sys
import warnings

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR
from transformers import get_cosine_with_min_lr_schedule_with_warmup, get_wsd_schedule

PEAK, STEPS, WARMUP, MINIMUM, DECAY = 3e-4, 40, 7, 0.1, 12
warnings.simplefilter("ignore")


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=PEAK)
    scheduler = make(optimizer)
    out = []
    for _ in range(STEPS):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def warmed_up(shape):
    def make(optimizer):
        warm_up = LambdaLR(optimizer, lambda step: (step + 1) / WARMUP)
        return SequentialLR(optimizer, [warm_up, shape(optimizer)], milestones=[WARMUP])
    return make


def case(name, make, first, **schedule):
    schedule = {"warmupSteps": WARMUP, "minimumRatio": str(MINIMUM), **schedule}
    return {"name": name, "schedule": schedule, "peak": PEAK, "steps": STEPS, "from": first, "rates": rates(make)[first:]}


rest = STEPS - WARMUP
cases = [
    case("CosineAnnealingLR", warmed_up(lambda o: CosineAnnealingLR(o, rest, PEAK * MINIMUM)), 0, kind="Cosine"),
    case("LinearLR", warmed_up(lambda o: LinearLR(o, 1.0, MINIMUM, rest)), 0, kind="Linear"),
    case("ConstantLR", warmed_up(lambda o: ConstantLR(o, 1.0)), 0, kind="Constant"),
    case("get_cosine_with_min_lr_schedule_with_warmup",
         lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, WARMUP, STEPS, min_lr_rate=MINIMUM), WARMUP, kind="Cosine"),
]
for shape, theirs in [("Linear", "linear"), ("Cosine", "cosine"), ("Sqrt", "1-sqrt")]:
    cases.append(case(f"get_wsd_schedule, {theirs}",
                      lambda o: get_wsd_schedule(o, WARMUP, DECAY, STEPS, decay_type=theirs, min_lr_ratio=MINIMUM), WARMUP,
                      kind="WarmupStableDecay", decaySteps=DECAY, decayShape=shape))
json.dump(cases, sys.stdout, indent=None)
print()
