"""Site acceptance: plan files, run record, report, signatures, comparison of bench and site."""
