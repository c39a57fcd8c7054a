"""The parts of the conformance driver (../run); Python's standard library only."""
