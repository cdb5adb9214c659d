//! Routes over real connections.
