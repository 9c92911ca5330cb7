//! A pure state machine: observations in, commands out.
