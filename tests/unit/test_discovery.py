"""Discovery: each probe against a fake machine in a folder, and the front that never lets one of them fail the rest."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fabric.errors import UnknownNameError
from fabric.types import Device, Flavor
from pools import discovery, probe_cpu, probe_nvidia, probe_pci
from pools.discovery import Discovery, discover
from pools.flavors import load_catalogue

GIB = 2**30
FPGA = Device(kind="fpga", name="Alveo U250", count=2)


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Flavor]:
    return load_catalogue()


class NVMLError(Exception):
    pass


class FakeNvml:
    """pynvml's shape. A card is a dict; a card that is an exception does not answer."""

    NVML_DEVICE_MIG_ENABLE = 1
    NVMLError = NVMLError

    def __init__(self, *cards: Any, broken: Exception | None = None) -> None:
        self.cards, self.broken, self.is_open = cards, broken, False

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.broken
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if isinstance(self.cards[index], Exception):
            raise self.cards[index]
        return self.cards[index]

    def _ask(self, card: Any, key: str) -> Any:
        if key not in card:
            raise NVMLError("Not Supported")
        return card[key]

    def nvmlDeviceGetName(self, card: Any) -> Any:
        return self._ask(card, "name")

    def nvmlDeviceGetMemoryInfo(self, card: Any) -> Any:
        return SimpleNamespace(total=self._ask(card, "memory"))

    def nvmlDeviceGetCudaComputeCapability(self, card: Any) -> Any:
        return self._ask(card, "capability")

    def nvmlDeviceGetMigMode(self, card: Any) -> Any:
        return self._ask(card, "mig_mode")

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Any, index: int) -> Any:
        if index >= len(card["slices"]) or card["slices"][index] is None:
            raise NVMLError("Not Found")
        return {"name": f"{card['name']} MIG {card['slices'][index]}"}


A100 = {"name": "NVIDIA A100-SXM4-80GB", "memory": 80 * GIB, "capability": (8, 0), "mig_mode": [0, 0]}
T4 = {"name": b"Tesla T4", "memory": 15 * GIB, "capability": (7, 5)}
K80 = {"name": "Tesla K80", "memory": 11 * GIB, "capability": (3, 7)}


def pci_card(root: Path, slot: str, vendor: int, device: int, class_code: int) -> None:
    folder = root / "bus/pci/devices" / slot
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"0x{vendor:04x}\n")
    (folder / "device").write_text(f"0x{device:04x}\n")
    (folder / "class").write_text(f"0x{class_code:06x}\n")


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# ---- NVIDIA -----------------------------------------------------------------------------------------------------------


def test_alike_cards_are_one_device_with_a_count(tmp_path: Path) -> None:
    nvml = FakeNvml(A100, T4, A100)
    a100, t4 = probe_nvidia.probe(nvml, sys_root=tmp_path)
    assert isinstance(a100, Device) and isinstance(t4, Device)
    assert (a100.name, a100.count, a100.memory_bytes, a100.compute_capability) == ("NVIDIA A100-SXM4-80GB", 2, 80 * GIB, 8.0)
    assert (t4.name, t4.count, t4.compute_capability, t4.mig) == ("Tesla T4", 1, 7.5, ())
    assert not nvml.is_open


@pytest.mark.parametrize(("card", "has"), [(A100, True), (T4, True), (K80, False)])
def test_tensor_cores_begin_with_capability_7(tmp_path: Path, card: Any, has: bool) -> None:
    (device,) = probe_nvidia.probe(FakeNvml(card), sys_root=tmp_path)
    assert isinstance(device, Device) and device.tensor_cores is has


def test_mig_slices_are_named_by_profile_and_do_not_count_as_cards(tmp_path: Path) -> None:
    sliced = {**A100, "mig_mode": [1, 1], "slices": ["1g.10gb", None, "3g.40gb"]}
    (device,) = probe_nvidia.probe(FakeNvml(sliced), sys_root=tmp_path)
    assert isinstance(device, Device) and (device.count, device.mig) == (1, ("1g.10gb", "3g.40gb"))


def test_a_lost_card_is_a_problem_and_the_others_are_found(tmp_path: Path) -> None:
    problem, device = probe_nvidia.probe(FakeNvml(NVMLError("GPU is lost"), T4), sys_root=tmp_path)
    assert problem == "NVIDIA card 0 does not answer: GPU is lost"
    assert isinstance(device, Device) and device.name == "Tesla T4"


def test_a_card_that_cannot_tell_its_memory_is_still_found(tmp_path: Path) -> None:
    (device,) = probe_nvidia.probe(FakeNvml({"name": "NVIDIA GB10"}), sys_root=tmp_path)
    assert isinstance(device, Device) and (device.memory_bytes, device.compute_capability, device.tensor_cores) == (None, None, None)


def test_no_nvml_and_no_card_on_the_bus_is_simply_no_card(tmp_path: Path) -> None:
    pci_card(tmp_path, "0000:00:1f.0", 0x8086, 0x0001, 0x060100)
    pci_card(tmp_path, "0000:86:00.0", 0x10DE, 0x1AF1, 0x068000)  # an NVSwitch is not a card
    assert list(probe_nvidia.probe(FakeNvml(broken=NVMLError("Library Not Found")), sys_root=tmp_path)) == []


def test_no_nvml_with_a_card_on_the_bus_is_a_broken_driver(tmp_path: Path) -> None:
    pci_card(tmp_path, "0000:3b:00.0", 0x10DE, 0x20B2, 0x030200)
    found = list(probe_nvidia.probe(FakeNvml(broken=OSError("libnvidia-ml.so.1: no such file")), sys_root=tmp_path))
    assert found == ["NVIDIA card on the PCI bus but NVML failed: libnvidia-ml.so.1: no such file"]


@pytest.mark.gpu
def test_the_real_nvml_finds_the_cards_of_this_machine(catalogue: dict[str, Flavor]) -> None:
    found = list(probe_nvidia.probe())
    if not found:
        pytest.skip("no NVIDIA card on this machine")
    assert [line for line in found if isinstance(line, str)] == []
    for device in found:
        assert isinstance(device, Device) and device.name and device.memory_bytes and device.compute_capability


# ---- CPU --------------------------------------------------------------------------------------------------------------

X86_CPUINFO = (
    "processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n"
)
ARM_CPUINFO = "processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


def cpu(tmp_path: Path, *, num_usable: int = 8, machine: str = "x86_64", wanted: Iterable[str] = ()) -> Device:
    found = list(
        probe_cpu.probe(
            proc_root=tmp_path / "proc", sys_root=tmp_path / "sys", num_usable=num_usable, machine=machine, wanted=frozenset(wanted)
        )
    )
    (device,) = (item for item in found if isinstance(item, Device))
    return device


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "name", "isa"),
    [
        (X86_CPUINFO, "x86_64", "AMD EPYC 9654", ("avx2", "avx512f", "avx512_vnni")),
        (ARM_CPUINFO, "aarch64", "Arm Neoverse V1", ("asimd", "sve")),
        (ARM_CPUINFO.replace("0xd40", "0xfff"), "aarch64", "aarch64 implementer 0x41 part 0xfff", ("asimd", "sve")),
        ("", "arm64", "arm64 CPU", ("asimd",)),
    ],
)
def test_a_cpu_tells_its_name_and_the_instruction_sets_that_matter(
    tmp_path: Path, cpuinfo: str, machine: str, name: str, isa: tuple[str, ...]
) -> None:
    write(tmp_path, {"proc/cpuinfo": cpuinfo})
    device = cpu(tmp_path, machine=machine)
    assert (device.kind, device.name, device.isa, device.count) == ("cpu", name, isa, 8)


def test_a_flag_that_a_flavor_asks_for_is_reported_too(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": X86_CPUINFO})
    assert cpu(tmp_path, wanted={"sse2", "vaes"}).isa == ("avx2", "avx512f", "avx512_vnni", "sse2")


def test_a_machine_without_cpuinfo_still_has_a_cpu_and_says_what_is_unknown(tmp_path: Path) -> None:
    problem, device = probe_cpu.probe(proc_root=tmp_path, sys_root=tmp_path, num_usable=4, machine="x86_64")
    assert isinstance(problem, str) and "instruction sets are unknown" in problem
    assert isinstance(device, Device) and (device.count, device.isa) == (4, ())


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "3200000 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "200000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
    ],
)
def test_the_count_is_what_affinity_and_the_tightest_cgroup_leave(tmp_path: Path, files: dict[str, str], count: int) -> None:
    write(tmp_path, {"proc/cpuinfo": X86_CPUINFO, **files})
    assert cpu(tmp_path).count == count


# ---- everything else on the bus ---------------------------------------------------------------------------------------

PciTable = list[tuple[str, int, int, int]]


@pytest.mark.parametrize(
    ("cards", "nodes", "expected"),
    [
        ([("0000:00:04.0", 0x1AE0, 0x0063, 0xFF0000)], ["accel0"], [("tpu", "Google TPU v5e", 1, "TPU")]),
        ([("0000:00:04.0", 0x1AE0, 0x0042, 0x020000)], ["accel0"], [("tpu", "Google TPU", 1, "TPU")]),
        ([], ["accel/accel0"], []),
        ([("0000:00:1f.0", 0x1D0F, 0x7264, 0x088000)], ["neuron0", "neuron_ctl"], [("asic", "AWS Inferentia2", 1, "neuron_cores")]),
        ([("0000:00:1e.0", 0x1D0F, 0xEC20, 0x020000)], [], []),
        (
            [("0000:19:00.0", 0x1DA3, 0x1020, 0x120000), ("0000:1a:00.0", 0x1DA3, 0x1020, 0x120000)],
            ["accel/accel0", "accel/accel1", "accel/accel_controlD0"],
            [("hpu", "Intel Gaudi2", 2, "HPU")],
        ),
        ([], ["davinci0", "davinci1", "davinci_manager"], [("npu", "Huawei Ascend", 2, "NPU")]),
        (
            [("0000:c1:00.0", 0x1002, 0x74A1, 0x120000), ("0000:c2:00.0", 0x1002, 0x73BF, 0x030000)],
            ["kfd"],
            [("gpu", "AMD Instinct MI300X", 1, "GPU"), ("gpu", "AMD GPU 1002:73bf", 1, "GPU")],
        ),
        ([("0000:c1:00.0", 0x1002, 0x74A1, 0x120000)], [], []),
        ([("0000:4d:00.0", 0x8086, 0x0BD5, 0x038000)], ["dri/renderD128"], [("gpu", "Intel GPU 8086:0bd5", 1, "GPU")]),
        ([("0000:00:02.0", 0x8086, 0x46A6, 0x030000)], ["dri/renderD128"], []),
        (
            [("0000:3b:00.0", 0x10EE, 0x5004, 0x120000), ("0000:3b:00.1", 0x10EE, 0x5005, 0x120000)],
            [],
            [("fpga", "Alveo U250", 1, "FPGA")],
        ),
        ([("0000:0b:00.1", 0x10EE, 0x5049, 0x058000)], [], [("fpga", "Versal VCK5000", 1, "FPGA")]),
        ([("0000:0b:00.0", 0x10EE, 0x9038, 0x058000)], [], [("fpga", "Xilinx FPGA 10ee:9038", 1, "FPGA")]),
        ([("0000:0b:00.0", 0x10EE, 0x3FC6, 0x040100)], [], []),
        ([("0000:5e:00.0", 0x17CB, 0xA100, 0x120000)], ["accel/accel0"], [("npu", "Qualcomm Cloud AI 100", 1, "QAIC")]),
        ([("0000:5e:00.0", 0x17CB, 0xA100, 0x120000)], ["qaic_aic100_0"], [("npu", "Qualcomm Cloud AI 100", 1, "QAIC")]),
        ([("0000:02:00.0", 0x17CB, 0x1103, 0x028000)], ["accel/accel0"], []),
        ([], [], []),
    ],
)
def test_an_accelerator_is_found_by_its_pci_id_and_the_node_of_its_driver(
    tmp_path: Path, cards: PciTable, nodes: list[str], expected: list[tuple[str, str, int, str]]
) -> None:
    for slot, vendor, device, class_code in cards:
        pci_card(tmp_path / "sys", slot, vendor, device, class_code)
    write(tmp_path / "dev", dict.fromkeys(nodes, ""))
    found = list(probe_pci.probe(sys_root=tmp_path / "sys", dev_root=tmp_path / "dev"))
    assert [(d.kind, d.name, d.count, d.resource) if isinstance(d, Device) else d for d in found] == expected


def test_a_tpu_behind_vfio_is_told_from_a_network_card_by_its_vendor(tmp_path: Path) -> None:
    groups = "kernel/iommu_groups"
    write(tmp_path / "sys", {f"{groups}/7/devices/0000:00:05.0/vendor": "0x1ae0\n", f"{groups}/8/devices/0000:03:00.0/vendor": "0x15b3\n"})
    pci_card(tmp_path / "sys", "0000:00:05.0", 0x1AE0, 0x006F, 0xFF0000)
    write(tmp_path / "dev", {"vfio/7": "", "vfio/8": "", "vfio/9": "", "vfio/vfio": ""})
    (device,) = probe_pci.probe(sys_root=tmp_path / "sys", dev_root=tmp_path / "dev")
    assert isinstance(device, Device) and (device.name, device.count) == ("Google TPU v6e", 1)


@pytest.mark.parametrize(("vendor", "device"), [(0x1DA3, 0x1020), (0x17CB, 0xA100)])
def test_a_card_whose_driver_is_not_loaded_is_a_problem(tmp_path: Path, vendor: int, device: int) -> None:
    pci_card(tmp_path, "0000:19:00.0", vendor, device, 0x120000)
    (problem,) = probe_pci.probe(sys_root=tmp_path, dev_root=tmp_path / "dev")
    assert isinstance(problem, str) and "no device node in /dev" in problem


# ---- the front --------------------------------------------------------------------------------------------------------


class FakePlugin:
    """An installed entry point; `load` gives `called`, or raises it."""

    def __init__(self, name: str, called: Callable[[], Any] | Exception) -> None:
        self.name, self.value, self.called = name, f"{name}:devices", called

    def load(self) -> Callable[[], Any]:
        if isinstance(self.called, Exception):
            raise self.called
        return self.called


def run(
    catalogue: dict[str, Flavor],
    declared: Iterable[Device] = (),
    plugins: Iterable[Any] = (),
    **probes: Callable[[], Iterable[Device | str]],
) -> Discovery:
    return discover(catalogue, declared, probes=probes, plugins=plugins)


def raising(error: Exception) -> Callable[[], Iterable[Device | str]]:
    def probe() -> Iterable[Device | str]:
        raise error

    return probe


def test_what_is_found_gets_its_flavor_and_that_flavors_resource(catalogue: dict[str, Flavor]) -> None:
    found = run(catalogue, nvidia=lambda: [Device(kind="gpu", name="Tesla T4", count=4)], pci=lambda: ["a problem line"])
    (t4,) = found.devices
    assert (t4.flavor, t4.resource, t4.count, t4.source) == ("t4", "GPU", 4, "nvidia")
    assert found.problems == ("a problem line",)


def test_a_broken_driver_is_a_problem_line_and_hides_nothing(catalogue: dict[str, Flavor]) -> None:
    found = run(catalogue, amd=raising(RuntimeError("ioctl failed")), pci=lambda: [FPGA])
    assert found.problems == ("amd: RuntimeError: ioctl failed",)
    assert [device.flavor for device in found.devices] == ["alveo-u250"]


@pytest.mark.parametrize(
    ("called", "words"),
    [
        (ImportError("no module named hailo"), ["plug-in hailo (hailo:devices)", "no module named hailo"]),
        (raising(RuntimeError("bus error")), ["plug-in hailo", "bus error"]),
        (lambda: None, ["plug-in hailo", "TypeError"]),
        (lambda: [42], ["plug-in hailo", "not a device: 42"]),
        (lambda: [Device(kind="npu", name="x", count=0)], ["plug-in hailo", "not a device"]),
        (lambda: [Device(kind="npu", name=None, count=1)], ["plug-in hailo", "AttributeError"]),  # type: ignore[arg-type]
        (lambda: [Device(kind="npu", name="x", count=1, flavor="hallo")], ["plug-in hailo", "'hallo'"]),
    ],
)
def test_a_broken_plug_in_is_a_problem_line_that_names_it(catalogue: dict[str, Flavor], called: Any, words: list[str]) -> None:
    found = run(catalogue, plugins=[FakePlugin("hailo", called)], pci=lambda: [FPGA])
    assert [word for word in words if word not in found.problems[0]] == []
    assert FPGA.name in [device.name for device in found.devices]


def test_a_device_of_no_known_flavor_keeps_its_own_resource_or_its_kind(catalogue: dict[str, Flavor]) -> None:
    plugin = FakePlugin("hailo", lambda: [Device(kind="npu", name="Hailo-8", count=2, resource="HAILO"), Device("dsp", "C66x", 1)])
    found = run(catalogue, plugins=[plugin])
    assert [(device.flavor, device.resource) for device in found.devices] == [(None, "HAILO"), (None, "DSP")]


def test_plug_ins_are_found_by_their_entry_point_group(catalogue: dict[str, Flavor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def listed(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return []

    monkeypatch.setattr(discovery, "entry_points", listed)
    assert discover(catalogue, probes={}) == Discovery((), ())
    assert asked == ["tierfabric.discovery"]


def test_a_damaged_installation_is_a_problem_line(catalogue: dict[str, Flavor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "entry_points", lambda **_: 1 / 0)
    assert discover(catalogue, probes={}).problems == ("plug-ins cannot be listed: ZeroDivisionError: division by zero",)


def named(found: Discovery) -> list[tuple[str, int]]:
    return [(device.name, device.count) for device in found.devices]


def test_who_speaks_later_about_a_kind_speaks_for_all_of_it(catalogue: dict[str, Flavor]) -> None:
    in_probe = Device(kind="fpga", name="Xilinx FPGA 10ee:9038", count=1)
    by_plugin = Device(kind="fpga", name="Versal VCK5000", count=1)
    t4 = Device(kind="gpu", name="Tesla T4", count=1)
    plugin = FakePlugin("xrt", lambda: [by_plugin])
    assert named(run(catalogue, plugins=[plugin], pci=lambda: [in_probe, t4])) == [("Versal VCK5000", 1), ("Tesla T4", 1)]
    assert named(run(catalogue, [FPGA], [plugin], pci=lambda: [in_probe, t4])) == [("Alveo U250", 2), ("Tesla T4", 1)]


def test_a_declared_device_gets_flavor_resource_and_source(catalogue: dict[str, Flavor]) -> None:
    (device,) = run(catalogue, [FPGA]).devices
    assert (device.flavor, device.resource, device.count, device.source) == ("alveo-u250", "FPGA", 2, "declared")


def test_a_declared_device_with_an_unknown_flavor_is_the_users_error(catalogue: dict[str, Flavor]) -> None:
    with pytest.raises(UnknownNameError, match="alveo-u25"):
        run(catalogue, [Device(kind="fpga", name="card", count=1, flavor="alveo-u25")])


def test_this_very_machine_is_described_without_an_exception(catalogue: dict[str, Flavor]) -> None:
    found = discover(catalogue, plugins=())
    assert sum(device.kind == "cpu" and device.count >= 1 for device in found.devices) == 1


def test_the_plug_in_in_the_docs_is_loaded_by_its_entry_point(
    catalogue: dict[str, Flavor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/extend/add-a-discovery-plugin.md").read_text(encoding="utf-8")
    project = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["project"]
    (tmp_path / "my_hailo").mkdir()
    (tmp_path / "my_hailo/discovery.py").write_text(page.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    ((name, value),) = project["entry-points"][discovery.PLUGIN_GROUP].items()
    assert discover(catalogue, probes={}, plugins=[EntryPoint(name, value, discovery.PLUGIN_GROUP)]).problems == ()
