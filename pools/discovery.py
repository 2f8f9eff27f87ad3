"""Decides what a machine has: runs every probe and plug-in, takes what is declared, and gives each device its flavor.

Invariants: a broken driver, a missing library or a broken plug-in is a problem line, never an exception, and never hides what
the others found; who speaks later about a kind of device speaks for all of it (declared over plug-ins over probes), so that
no card is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from fabric.types import Device, Flavor
from pools import probe_cpu, probe_nvidia, probe_pci
from pools.flavors import flavor_of_device, lookup

PLUGIN_GROUP = "tierfabric.discovery"
DECLARED = "declared"

Probe = Callable[[], Iterable[Device | str]]
"""Yields devices, and a line of text for each problem that it met."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found on one machine, accelerators and CPU, and what could not be read."""

    devices: tuple[Device, ...]
    problems: tuple[str, ...]


def discover(
    catalogue: Mapping[str, Flavor],
    declared: Iterable[Device] = (),
    *,
    probes: Mapping[str, Probe] | None = None,
    plugins: Iterable[EntryPoint] | None = None,
) -> Discovery:
    """Look at this machine. `probes` by name and `plugins` replace the built-in and the installed ones.

    A device of a known flavor has that flavor's `resource`; of none, its own, else its kind in capitals.

    Raises: UnknownNameError where a declared device names a flavor that is not in the catalogue.
    """
    found, problems = _ran(built_in_probes(catalogue) if probes is None else probes)
    added, complaints = _ran(_plugin_probes(_installed(problems) if plugins is None else plugins))
    problems += complaints
    devices = list(_labelled(catalogue, _overlaid(found, added), problems))
    return Discovery(_overlaid(devices, [_with_flavor(catalogue, device) for device in declared]), tuple(problems))


def built_in_probes(catalogue: Mapping[str, Flavor]) -> dict[str, Probe]:
    """One per family, by name."""
    wanted = frozenset(flag for flavor in catalogue.values() for flag in flavor.isa)
    return {"nvidia": probe_nvidia.probe, "pci": probe_pci.probe, "cpu": partial(probe_cpu.probe, wanted=wanted)}


def _ran(probes: Mapping[str, Probe]) -> tuple[list[Device], list[str]]:
    devices: list[Device] = []
    problems: list[str] = []
    for name, probe in probes.items():
        try:
            for found in probe():
                if isinstance(found, Device) and found.count > 0:
                    devices.append(found if found.source else replace(found, source=name))
                else:
                    problems.append(found if isinstance(found, str) else f"{name}: not a device: {found!r}")
        except Exception as error:  # whatever a vendor's library throws, the machine's other devices still count
            problems.append(f"{name}: {type(error).__name__}: {error}")
    return devices, problems


def _installed(problems: list[str]) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=PLUGIN_GROUP)
    except Exception as error:  # one damaged distribution on the path is enough
        problems.append(f"plug-ins cannot be listed: {type(error).__name__}: {error}")
        return ()


def _plugin_probes(plugins: Iterable[EntryPoint]) -> dict[str, Probe]:
    # The value is part of the key: two distributions may choose the same name.
    return {f"plug-in {plugin.name} ({plugin.value})": partial(_run_plugin, plugin) for plugin in plugins}


def _run_plugin(plugin: EntryPoint) -> Iterator[Device | str]:
    # Loaded here, inside the probe: a plug-in that cannot be imported is then reported like one that fails when called.
    yield from plugin.load()()


def _overlaid(below: Iterable[Device], above: Iterable[Device]) -> tuple[Device, ...]:
    above = tuple(above)
    spoken_for = {device.kind for device in above}
    return (*above, *(device for device in below if device.kind not in spoken_for))


def _labelled(catalogue: Mapping[str, Flavor], devices: Iterable[Device], problems: list[str]) -> Iterator[Device]:
    for device in devices:
        if device.flavor is not None and device.flavor not in catalogue:
            problems.append(f"{device.source}: {device.name} claims the flavor {device.flavor!r}, which is not in the catalogue")
            device = replace(device, flavor=None)
        try:
            yield _with_flavor(catalogue, device)
        except Exception as error:  # a plug-in may have filled a field with anything
            problems.append(f"{device.source}: {device!r}: {type(error).__name__}: {error}")


def _with_flavor(catalogue: Mapping[str, Flavor], device: Device) -> Device:
    name = flavor_of_device(catalogue, device)
    # The flavor's resource wins: it is the one that a route to that flavor will ask for.
    resource = lookup(catalogue, name).resource if name else device.resource or device.kind.upper()
    return replace(device, flavor=name, resource=resource, source=device.source or DECLARED)
