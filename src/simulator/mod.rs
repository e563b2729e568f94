//! The avatar service on one machine, with scripted faults.
