//! Tests of the operator against a real API server stand in `tests/`; `run` starts one and runs them. The library is
//! empty, so that a build without a cluster builds nothing of them.
