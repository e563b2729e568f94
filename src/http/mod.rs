//! The HTTP listeners: data plane and admin.
