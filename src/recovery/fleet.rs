//! The fleet machine: storm gate, breaker, tenant suspension and probes.
