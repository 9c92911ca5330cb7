//! Stages, schedules, optimizer, checkpoints, the step loop.
