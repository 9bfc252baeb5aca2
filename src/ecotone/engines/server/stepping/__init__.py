"""Computing the next tokens of many answers at once: one way for each kind of model, all behind `Stepper`."""

from ecotone.engines.server.stepping.stepper import Row, Stepper

__all__ = ["Row", "Stepper"]
