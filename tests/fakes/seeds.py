"""One check over many seeds as one test: hundreds of tests of a millisecond cost more to manage."""

import functools
import inspect


def for_seeds(seeds):
    """Call a test once a seed; the seed that failed stands in the failure's notes."""

    def decorate(check):
        @functools.wraps(check)
        def every(*arguments, **fixtures):
            for seed in seeds:
                try:
                    check(*arguments, seed=seed, **fixtures)
                except BaseException as failure:
                    failure.add_note(f"seed {seed}")
                    raise

        signature = inspect.signature(check)
        others = [p for name, p in signature.parameters.items() if name != "seed"]
        del every.__wrapped__
        every.__signature__ = signature.replace(parameters=others)
        return every

    return decorate
