"""One constructor each, with defaults, for what the core decides upon."""

from gateway.core.decide import Image
from gateway.core.state import Site, State
from gateway.core.verify import MarketPolicy
from gateway.model.interval import Interval, utc_text
from gateway.model.telemetry import State as StationState
from gateway.model.telemetry import StationTelemetry, TerminalTelemetry
from gateway.model.terminal import LossCurve, Sop, Terminal

OWNER = 4711
RUNNING = 0b0000_1000_0010_0111  # ready, running, remote, master ok
FIRST_MS = 1_800_000_000_000  # an instant on a quarter of an hour
QUARTER = Interval(FIRST_MS, FIRST_MS + 900_000)


def make_sop(**changes):
    terminals = tuple(
        Terminal(
            id=f"T{k}", index=k - 1, domain=f"region-{'abcd'[k - 1]}", meter=f"m{k}", s_va=250_000,
            p_w_min=-230_000, p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3600, v_dv_max=4400,
        )
        for k in range(1, 5)
    )  # fmt: skip
    fields = {
        "id": "SOP-1", "master": "T1", "terminals": terminals, "throughput_w": 500_000,
        "losses": LossCurve(a_ppm=4000, b_ppm=6000, c_ppm=6000), "v_dc_dv_min": 7200,
        "v_dc_dv_max": 8800,
    }  # fmt: skip
    return Sop(**(fields | changes))


def make_policy(**changes):
    return MarketPolicy(
        **({"gate_ms": 120_000, "horizon_ms": 172_800_000, "over_limit": "curtail"} | changes)
    )


def make_site(rearm="manual"):
    return Site(
        site="bench", sop=make_sop(), policy=make_policy(), rearm=rearm, owner_id=OWNER,
        ramp_permille_per_s=200,
    )  # fmt: skip


def make_station(setpoints=None, *, mono_us=1_000_000, **changes):
    setpoints = setpoints or {}
    terminals = tuple(
        TerminalTelemetry(
            id=f"T{k}", state=StationState.RUN, p_w=setpoints.get(f"T{k}", 0), q_var=0, v_dv=4000,
            s_va_available=250_000, p_w_set_active=setpoints.get(f"T{k}", 0),
            p_w_set_received=setpoints.get(f"T{k}", 0), fault_bits=0, limit_bits=0, export_wh=0,
            import_wh=0,
        )
        for k in range(1, 5)
    )  # fmt: skip
    fields = {
        "utc_us": FIRST_MS * 1000, "mono_us": mono_us, "state": StationState.RUN,
        "status_bits": RUNNING, "fault_bits": 0, "alarm_bits": 0, "ack_seq": 1, "ack_code": 0,
        "heartbeat_count": 1, "watchdog_remaining_ds": 50, "instruction_id": 0, "master": "T1",
        "v_dc_dv": 8000, "loss_w": 4000, "uptime_s": 100, "lease_owner": OWNER,
        "terminals": terminals,
    }  # fmt: skip
    return StationTelemetry(**(fields | changes))


def make_image(*, at_ms=FIRST_MS, mono_us=2_000_000, station=None, **changes):
    fields = {
        "utc_us": at_ms * 1000, "mono_us": mono_us, "time_quality": "good",
        "station": station if station is not None else make_station(mono_us=mono_us),
        "station_age_us": 100_000, "link_up": True, "configured": True, "lead_us": 0,
    }  # fmt: skip
    return Image(**(fields | changes))


class Book:
    """A state and the entries that made it, written as the journal would."""

    def __init__(self, *, rearm="manual", mode="on", boot=1):
        self.state = State(make_site(rearm))
        self.entries = []
        self.utc_us = FIRST_MS * 1000 - 600_000_000
        self.mono_us = 1_000_000
        self.boot_number = boot
        self.add("boot", version="0", site="bench", sop="SOP-1", previous_boot_index=-1, clean=True)
        self.add("mode", mode=mode, state="INIT", reasons=[])

    def add(self, kind, **fields):
        entry = {"kind": kind, "utc_us": self.utc_us, "mono_us": self.mono_us,
                 "boot": self.boot_number, "tq": "good"} | fields  # fmt: skip
        index = self.state.size
        self.state.fold(index, entry)
        self.entries.append(entry)
        return index

    def accept(self, trade_id, out, into, p_w, *, interval=QUARTER, revision=1):
        received = self.add(
            "trade.received", topic="t", retain=False, size=1, sha256=trade_id, payload="YQ=="
        )
        energy_wh = p_w * interval.duration_ms // 3_600_000
        return self.add(
            "trade.accepted", received_index=received, sha256=f"{trade_id}.{revision}",
            trade_id=trade_id, revision=revision, out_terminal=out, in_terminal=into, last=True,
            positions=[{"interval": span(interval), "p_w": p_w, "energy_wh": energy_wh}],
        )  # fmt: skip

    def plan(self, targets_wh, *, interval=QUARTER, trades=()):
        zero = {f"T{k}": 0 for k in range(1, 5)}
        return self.add(
            "plan", sop="SOP-1", interval=span(interval), setpoints=zero,
            planned_wh=zero | targets_wh, trades=list(trades),
        )  # fmt: skip

    def execute(
        self,
        setpoints,
        *,
        plan_index=-1,
        authority="plan",
        instr_id=99,
        outcome="executed",
        ramps=None,
        q_var=None,
    ):
        zero = {f"T{k}": 0 for k in range(1, 5)} | setpoints
        own = ramps or dict.fromkeys(zero, 200)
        intent = self.add(
            "intent", sop="SOP-1", authority=authority, plan_index=plan_index, instr_id=instr_id,
            setpoints=[{"terminal": t, "mode": "P_Q", "p_w": p, "q_var": (q_var or {}).get(t, 0),
                        "ramp_permille_per_s": own[t]} for t, p in zero.items()],
            ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0,
        )  # fmt: skip
        self.add("prepared", intent_index=intent, instr_id=instr_id)
        self.add("commit", intent_index=intent, instr_id=instr_id, reasons=[])
        self.add(
            "outcome",
            intent_index=intent,
            instr_id=instr_id,
            outcome=outcome,
            active=zero,
            reasons=[],
        )
        return intent

    def adopted(self, cause="zero"):
        self.add("readback", sop="SOP-1", instr_id=0, active={}, state="RUN", cause=cause)
        return self

    def read(self, utc_us, **net_wh):
        self.add("reading", meters=[
            {"meter": f"m{t[1]}", "terminal": t, "utc_us": utc_us, "quality": "good", "age_ms": 0,
             "import_wh": 100_000 - min(0, wh), "export_wh": 100_000 + max(0, wh), "p_w": 0,
             "registers": []}
            for t, wh in net_wh.items()
        ])  # fmt: skip


def span(interval):
    return {"start": utc_text(interval.start_ms), "end": utc_text(interval.end_ms)}
