//! Accepted requests, and the one outcome that each gets.
