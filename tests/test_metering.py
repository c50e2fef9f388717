"""Energy is counted from counters where they can be read, and estimated from CPU time where not;
the method is named.
"""

import json
import re
import subprocess
import sys
import time
import types

import numpy as np
import pandas as pd
import pytest

from conjoin.util import energy as metering
from conjoin.util.energy import Energy, Meter, Tally
from conjoin.util.energy_record import asked_of, note_down


def zone(folder, name, label, microjoules, largest=262_143_328_850):
    path = folder / name
    path.mkdir()
    (path / "name").write_text(label + "\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{largest}\n")
    return path / "energy_uj"


def burn(seconds=0.05):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_packages_and_memory_are_counted_once(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    cores = zone(tmp_path, "intel-rapl:0:0", "core", 500_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    platform = zone(tmp_path, "intel-rapl:1", "psys", 0)
    with Meter(tmp_path) as meter:
        package.write_text("3601000000")
        cores.write_text("3000000000")
        memory.write_text("360000000")
        platform.write_text("9000000000")
    assert meter.energy.kwh == pytest.approx(3960 / 3.6e6)
    assert meter.energy.low < meter.energy.kwh < meter.energy.high
    assert meter.energy.method == "processor counters, all programs"


def test_a_counter_that_wraps(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 65_000_000_000, largest=65_532_610_987)
    with Meter(tmp_path) as meter:
        package.write_text("467389012")  # 1,000 J later
    assert meter.energy.kwh == pytest.approx(1000 / 3.6e6)


def test_a_long_block_is_polled_so_that_no_wrap_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(metering, "POLL_SECONDS", 0.01)
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0, largest=99_999_999)
    with Meter(tmp_path) as meter:
        for value in (60_000_000, 20_000_000, 80_000_000, 40_000_000):  # 60 + 60 + 60 + 60 J
            (tmp_path / "next").write_text(str(value))
            (tmp_path / "next").replace(package)  # at once: a counter is never seen half written
            time.sleep(0.1)
    assert meter.energy.kwh == pytest.approx(240 / 3.6e6)


@pytest.mark.parametrize("content", ["", "no number"])
def test_unreadable_counters_fall_back_to_cpu_time(tmp_path, content):
    zone(tmp_path, "intel-rapl:0", "package-0", 0).write_text(content)
    with Meter(tmp_path) as meter:
        burn()
    assert meter.energy.method == "CPU time x 12 W per core"


def test_a_counter_that_vanishes_or_stands_still_falls_back(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 5)
    with Meter(tmp_path) as still:
        burn()
    with Meter(tmp_path) as vanished:
        burn()
        package.unlink()
    assert still.energy.method == vanished.energy.method == "CPU time x 12 W per core"


def test_cpu_time_times_power(tmp_path):
    with Meter(tmp_path / "absent") as meter:
        burn(0.2)
        so_far = meter.energy
    energy = meter.energy
    assert 0 < so_far.kwh <= energy.kwh
    assert energy.cpu_seconds >= 0.15
    assert energy.kwh == pytest.approx(12 * energy.cpu_seconds / 3.6e6)
    assert energy.low == pytest.approx(energy.kwh / 3)
    assert energy.high == pytest.approx(energy.kwh * 2)
    assert meter.energy is energy, "it stands still after the block"


def test_an_exception_still_ends_the_measure(tmp_path):
    meter = Meter(tmp_path)
    with pytest.raises(KeyError), meter:
        raise KeyError
    assert meter.energy is meter.energy


def test_the_gpu_counts_once_this_process_has_used_it(tmp_path, monkeypatch):
    readings = iter([1_000.0, 37_000.0, 37_000.0])
    monkeypatch.setattr(metering, "gpu_joules", lambda: next(readings))
    monkeypatch.setattr(metering, "_uses_gpu", lambda: True)
    with Meter(tmp_path) as meter:
        pass
    assert meter.energy.kwh == pytest.approx(0.01, rel=1e-2)
    assert meter.energy.method == "CPU time x 12 W per core; GPU counters"


def test_nvml_sums_the_visible_gpus(monkeypatch):
    fake = types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda index: 1000 * (index + 1),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert metering.gpu_joules() == pytest.approx(6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert metering.gpu_joules() == pytest.approx(4)


def test_nvml_without_a_driver(monkeypatch):
    def init():
        raise RuntimeError("driver not loaded")

    monkeypatch.setitem(
        sys.modules, "pynvml", types.SimpleNamespace(NVMLError=RuntimeError, nvmlInit=init)
    )
    assert metering.gpu_joules() is None


def test_nvml_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert metering.gpu_joules() is None


def test_words_json_and_sum():
    one = Energy(0.0021, 0.001, 0.005, "CPU time x 12 W per core", seconds=400.0, cpu_seconds=630.0)
    assert (
        str(one) == "0.0021 kWh (CPU time x 12 W per core, 0.001 to 0.005), 0.42 % of a brain's day"
    )
    assert "3.4e" not in str(Energy(3.4e-8, 0, 0, "x", 0, 0))
    assert str(Energy(170, 160, 180, "GPU counters", 1, 1)).endswith("340 brain days")
    assert json.loads(json.dumps(one.to_json()))["brain_days"] == pytest.approx(0.0042)
    both = one + Energy(1, 1, 1, "GPU counters", 2, 2)
    assert both.kwh == pytest.approx(1.0021)
    assert both.seconds == pytest.approx(402)
    assert both.method == "CPU time x 12 W per core; GPU counters"
    assert (both + one).method == both.method


def test_it_loads_nothing_heavy():
    code = (
        "import sys, conjoin.util.energy; print(sorted({'torch', 'numpy', 'pandas', "
        "'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------- many pieces of work


def test_pieces_add_up_and_what_lies_between_does_not_count(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    tally = Tally(tmp_path)
    for joules in (5, 7):
        with tally:
            package.write_text(f"{int(package.read_text()) + joules * 1_000_000}")
        package.write_text(f"{int(package.read_text()) + 100_000_000}")
    assert tally.energy.joules == pytest.approx(12)
    assert tally.energy.method == "processor counters, all programs"


def test_without_counters_pieces_are_cpu_time(tmp_path):
    tally = Tally(tmp_path)
    for _ in range(2):
        with tally:
            burn(0.03)
        burn(0.03)
    spent = tally.energy
    assert 0.06 <= spent.cpu_seconds < 0.09
    assert spent.joules == pytest.approx(12 * spent.cpu_seconds)
    assert spent.low == pytest.approx(spent.kwh / 3)
    assert spent.high == pytest.approx(spent.kwh * 2)


def test_a_piece_costs_less_than_half_a_percent_of_a_turn(tmp_path):
    """A server's turn takes 30 ms; a package and its memory have a counter each."""
    for number in range(2):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 0)
    tally = Tally(tmp_path)
    start = time.process_time()
    for _ in range(300):
        with tally:
            pass
        _ = tally.energy
    assert (time.process_time() - start) / 300 < 0.005 * 0.03


def test_what_is_told_of_an_answer():
    spent = Energy(2e-5, 1e-5, 4e-5, "some method", 5.0, 5.0)
    told = spent.told(token=36, accepted=0)
    assert told["joules"] == pytest.approx(72)
    assert told["joules_per_token"] == pytest.approx(2)
    assert told["joules_per_accepted"] is None
    assert told["brain_seconds"] == pytest.approx(72 / (0.5 * 3.6e6 / 86400))
    assert spent.shared(4).joules == pytest.approx(18)
    assert spent.shared(4).method == "some method"


# ------------------------------------------------------------------------ what asking has taken


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A table of two classes and a model of it."""
    from conjoin.cli import run

    folder = tmp_path_factory.mktemp("spent")
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    table = pd.DataFrame({"a": a, "b": rng.normal(size=400), "y": np.where(a > 0, "up", "down")})
    table.to_csv(folder / "table.csv", index=False)
    line = f"fit {folder}/table.csv --target y --family nb --predictor none -q -o {folder}/model"
    assert run(line.split()) == 0
    return folder


def test_decide_says_what_the_verdicts_took(home, say):
    line = "decide @model @table.csv --max-error 0.2"
    assert "Energy" not in say(line).out
    said = " ".join(say(f"{line} --energy").out.split())
    assert re.search(r"Energy: \S+ J \(.*\), \S+ J a row, \S+ J for each accepted", said)
    found = json.loads(say(f"{line} --energy --json").out)
    told = found["energy"]
    assert told["joules_per_row"] == pytest.approx(told["joules"] / 400)
    assert told["joules_per_accepted"] == pytest.approx(told["joules"] / found["counts"]["accept"])


def test_info_shows_the_energy_of_everything(home, say, tmp_path, monkeypatch):
    monkeypatch.setenv("CONJOIN_CONFIG", str(tmp_path / "settings"))
    fit = json.loads(say("info @model --json").out)["energy"]
    say("info @model")
    for _ in range(2):
        say("predict @model @table.csv -o out.csv --force")
    said = say("info @model").out
    assert "asked since" in said
    assert re.search(r"in\s+2\s+commands\s+of\s+this\s+user", said)
    assert "energy in all" in said
    asked = json.loads(say("info @model --json").out)["energy_asked"]
    assert (asked["runs"], asked["kwh"] > 0) == (2, True)
    assert fit["kwh"] > 0
    (lines,) = [path.read_text().splitlines() for path in (tmp_path / "settings").iterdir()]
    assert [set(json.loads(line)) for line in lines] == [{"model", "method", "numbers"}] * 2
    monkeypatch.setenv("CONJOIN_ENERGY", "off")
    say("predict @model @table.csv -o out.csv --force")
    assert json.loads(say("info @model --json").out)["energy_asked"]["runs"] == 2


def test_lines_that_were_cut_are_left_out(home, tmp_path, monkeypatch):
    monkeypatch.setenv("CONJOIN_CONFIG", str(tmp_path))
    assert asked_of(home / "model") is None
    assert note_down(home / "model", Energy(1.0, 0.5, 2.0, "m", 1.0, 1.0))
    file = tmp_path / "energy.jsonl"
    file.write_text(file.read_text() * 2 + file.read_text()[:-9])
    found = asked_of(home / "model")
    assert (found.runs, found.energy.kwh) == (2, 2.0)
    assert not note_down(tmp_path, found.energy)  # no folder of a model
    assert asked_of(tmp_path) is None
