//! Supervision: starts, restarts, parks and ends sessions.
