"""One accent hue per arm, colour-blind safe; a hue and a shape per eval family. Colour never carries a fact alone."""

from collections.abc import Iterable

# Arms: Okabe & Ito (2008), with greys for the two arms that everything is compared with.
ARM_HUES = {
    "prior": "#8a929b",
    "standard": "#39424e",
    "traits": "#0072b2",
    "health-only": "#009e73",
    "no-health-science": "#d98c00",
    "helpfulness": "#c0609b",
}
_OTHER_ARM_HUES = ("#d55e00", "#56b4e9", "#882255", "#999933", "#332288", "#44aa99")

# Families: Paul Tol's "muted" scheme; past nine the hues repeat with another shape.
_FAMILY_HUES = ("#332288", "#cc6677", "#117733", "#88ccee", "#aa4499", "#999933", "#882255", "#44aa99", "#c8a530")
_FAMILY_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")

INK, MUTED, RULE, LOSS = "#20262d", "#66707b", "#c9ced4", "#b3261e"


def order_arms(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct arm names: the known ones in the order of the method, then any others by name."""
    found = set(names)
    return tuple(name for name in ARM_HUES if name in found) + tuple(sorted(found - set(ARM_HUES)))


def arm_hues(names: Iterable[str]) -> dict[str, str]:
    """A hue per arm, in :func:`order_arms` order. Unknown arms take the spare hues in turn."""
    ordered = order_arms(names)
    others = [name for name in ordered if name not in ARM_HUES]
    spare = {name: _OTHER_ARM_HUES[index % len(_OTHER_ARM_HUES)] for index, name in enumerate(others)}
    return {name: ARM_HUES.get(name) or spare[name] for name in ordered}


def family_marks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(hue, Vega shape) per family, in name order."""
    return {
        name: (
            _FAMILY_HUES[index % len(_FAMILY_HUES)],
            _FAMILY_SHAPES[index // len(_FAMILY_HUES) % len(_FAMILY_SHAPES)],
        )
        for index, name in enumerate(sorted(set(names)))
    }
