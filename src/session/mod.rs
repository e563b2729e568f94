//! One session: the actor, and its connection.
