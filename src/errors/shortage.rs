//! What Greenroom's own machine can run out of.

use std::fmt;

/// Something that an attempt needed and Greenroom's machine had no more of. It says nothing of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortage {
    /// No local port is left towards the service from any source address (`EADDRNOTAVAIL`).
    Ports,
    /// No file descriptor is left for the process or the machine (`EMFILE`, `ENFILE`).
    Descriptors,
}

impl Shortage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ports, Self::Descriptors];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Descriptors => "descriptors",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
