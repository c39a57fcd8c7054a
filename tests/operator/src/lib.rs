//! Operator tests against a real API server.
