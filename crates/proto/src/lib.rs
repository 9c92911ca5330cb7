//! The wire format between operator, agents and gateway.
