"""Recipe -> dataset, trial, run, report; bench; study."""
