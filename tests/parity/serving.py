"""Asks an endpoint as users do, with the openai client, and compares with transformers: serving.py MODEL URL KEY TEXT.jsonl.

Fails by an AssertionError. Prints a JSON object: bits per byte of the file's records by echoed log-probabilities.
"""

import asyncio
import json
import math
import sys

import openai
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# Where the two best logits lie as near as this, either token may be taken.
NEAR = 1e-3
PROMPTS = ["Once upon a time", "The little dog was", "A 中文 prompt, and"]


def reference(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def ids_of(tokenizer, text):
    """With one BOS before them, as documents are trained on, whether or not this tokenizer puts it there itself."""
    ids = tokenizer(text)["input_ids"]
    return ids if tokenizer.bos_token_id in (None, ids[0]) else [tokenizer.bos_token_id, *ids]


def check_greedy(client, name, model, tokenizer, prompt, count):
    """Token by token, each judged by what transformers would have taken in its place."""
    ids = ids_of(tokenizer, prompt)
    answer = client.completions.create(model=name, prompt=prompt, max_tokens=count, temperature=0, logprobs=5,
                                       extra_body={"ignore_eos": True})
    choice = answer.choices[0]
    assert answer.usage.prompt_tokens == len(ids) and answer.usage.completion_tokens == count, answer.usage
    by_ids = client.completions.create(model=name, prompt=ids, max_tokens=count, temperature=0,
                                       extra_body={"ignore_eos": True})
    assert by_ids.choices[0].text == choice.text, "ids and text give the same"
    with torch.no_grad():
        theirs = model.generate(torch.tensor([ids]), max_new_tokens=count, min_new_tokens=count, do_sample=False,
                                pad_token_id=0)[0]
        logprobs = torch.log_softmax(model(theirs[None]).logits[0].float(), -1)
    text, parted = "", False
    for place, value in enumerate(choice.logprobs.token_logprobs):
        row = logprobs[len(ids) + place - 1]
        best = row.topk(2).values
        taken = int(theirs[len(ids) + place])
        text = tokenizer.decode(theirs[: len(ids) + place + 1])
        if abs(value - float(row[taken])) > NEAR:
            assert float(best[0] - best[1]) < NEAR, f"{prompt!r}: token {place} has {value}, not {float(row[taken])}"
            parted = True
            break
        listed = sorted(choice.logprobs.top_logprobs[place].values(), reverse=True)[:2]
        assert all(abs(ours - float(theirs)) < NEAR for ours, theirs in zip(listed, best)), (listed, best)
    if not parted:
        whole = tokenizer.decode(theirs, skip_special_tokens=True)
        assert whole.endswith(choice.text), f"{whole!r} does not end with {choice.text!r}"
    return parted


def check_echo(client, name, model, tokenizer, text):
    """Echoed log-probabilities are transformers'; gives them, and ours without a cache of beginnings."""
    ids = ids_of(tokenizer, text)
    answers = [
        client.completions.create(model=name, prompt=prompt, max_tokens=0, echo=True, logprobs=0)
        for prompt in (text, ids, text)
    ]
    values = [answer.choices[0].logprobs.token_logprobs for answer in answers]
    assert values[0] == values[1] == values[2], "text, ids, and once more"
    assert values[0][0] is None and len(values[0]) == len(ids), (len(values[0]), len(ids))
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
    for place, id in enumerate(ids[1:]):
        theirs = float(logprobs[place, id])
        assert abs(values[0][place + 1] - theirs) < NEAR, (place, values[0][place + 1], theirs)
    assert answers[0].choices[0].text == text, (answers[0].choices[0].text, text)
    return values[0][1:]


def check_stream(client, name):
    options = dict(model=name, prompt=PROMPTS[0], max_tokens=24, seed=7, temperature=0.8, extra_body={"top_k": 50})
    whole = client.completions.create(**options)
    again = client.completions.create(**options)
    assert whole.choices[0].text == again.choices[0].text, "a seed gives the same again"
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].text, (text, whole.choices[0].text)
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    two = client.completions.create(**{**options, "n": 2})
    assert [choice.index for choice in two.choices] == [0, 1]
    stop = whole.choices[0].text[5:9]
    cut = client.completions.create(**options, stop=stop)
    assert cut.choices[0].text == whole.choices[0].text[: whole.choices[0].text.index(stop)] and cut.choices[0].finish_reason == "stop"


def check_errors(client, name, url):
    def refused(kind, param, **options):
        try:
            client.completions.create(**{"model": name, "prompt": "x", **options})
        except kind as error:
            assert error.body["param"] == param, error.body
            return error
        raise AssertionError(f"{options} is not refused")

    refused(openai.BadRequestError, "temperature", temperature=-1)
    refused(openai.BadRequestError, "best_of", best_of=3)
    refused(openai.BadRequestError, "suffix", suffix="x")
    refused(openai.NotFoundError, "model", model="another")
    long = refused(openai.BadRequestError, "prompt", prompt="word " * 100000)
    assert "context" in str(long), long
    try:
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError:
        return
    raise AssertionError("a wrong key is taken")


async def check_many(url, key, name):
    """Alone and among others, greedy gives the same."""
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=300)
    ask = lambda index: client.completions.create(model=name, prompt=f"There once were {index} cats", max_tokens=24, temperature=0)
    alone = [(await ask(index)).choices[0].text for index in range(4)]
    together = await asyncio.gather(*(ask(index) for index in range(32)))
    for index, text in enumerate(alone):
        assert together[index].choices[0].text == text, (index, text, together[index].choices[0].text)


def check_chat(client, name, tokenizer):
    if tokenizer.chat_template is None:
        return
    messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "Name two colours."}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    chat = client.chat.completions.create(model=name, messages=messages, max_completion_tokens=16, temperature=0,
                                          logprobs=True, top_logprobs=2)
    assert chat.usage.prompt_tokens == len(ids), (chat.usage, len(ids))
    plain = client.completions.create(model=name, prompt=ids, max_tokens=16, temperature=0)
    assert chat.choices[0].message.content == plain.choices[0].text
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 2
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "maximum": 99}},
              "required": ["colour", "count"], "additionalProperties": False}
    shaped = client.chat.completions.create(
        model=name, messages=messages, max_completion_tokens=64,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
    found = json.loads(shaped.choices[0].message.content)
    assert set(found) == {"colour", "count"} and found["colour"] in ("red", "blue"), found


def main():
    folder, url, key, path = sys.argv[1:5]
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=300)
    name = client.models.list().data[0].id
    model, tokenizer = reference(folder)
    parted = [check_greedy(client, name, model, tokenizer, prompt, count=64) for prompt in PROMPTS]
    check_stream(client, name)
    check_errors(client, name, url)
    asyncio.run(check_many(url, key, name))
    check_chat(client, name, tokenizer)
    nats = size = 0
    for line in open(path, encoding="utf-8"):
        text = json.loads(line)["target"]
        nats -= sum(check_echo(client, name, model, tokenizer, text))
        size += len(text.encode())
    print(json.dumps({"bitsPerByte": nats / math.log(2) / size, "parted": parted}))


main()
