"""Sees the true state and every byte that leaves; says which invariant broke, and when."""

import hashlib
import itertools

from gateway.core import tracking
from gateway.model.interval import utc_ms_from
from gateway.model.setpoint import Ack, Command
from gateway.model.telemetry import State

from .market import body_of
from .plant import LOSS_W

SETTLED_US = 6_000_000  # poll, staleness and one instruction: after this the gateway must know
DETECT_US = 8_000_000
UNSEEN_US = 22_000_000  # four seconds until it is known, five of the watchdog, and the ramp
SEEN_US = 3_000_000
AWAY_PERCENT = 4  # of the rating: nearer than that is there
ARRIVAL_US = 11_200_000  # the longest ramp and two seconds
FALL_US = 9_000_000  # seen within a poll or two, told or left to timers of five seconds
MASTER_RATIO_MAX = 1.0  # the way between two safe plans is a straight line


class Oracle:
    """Checks while it runs; ``broken`` keeps every finding with its time."""

    def __init__(self, world):
        self.world = world
        self.broken = []
        self.intents = {}  # instr id -> (index, entry)
        self.stage = {}  # instr id -> set of entry kinds
        self.sent = {"select": set(), "operate": set(), "command": set()}
        self.plans = {}
        self.limits = None  # (since when durable, what a system operator sent)
        self.received = set()
        self.differs_us = {}  # instr id -> since when the ledger says that it was not done as sent
        self.since = {}  # true condition -> when it began
        self.ended_us = {}  # … and when it was over last, however short it was
        self.stop_us = -(1 << 60)  # when the station was told to stop last
        self.foreign_us = None
        self.stepped_us = -(1 << 60)  # when UTC was last set, seen by anybody or not
        self.known_step_us, self.step_seen, self.step_size_us = 0, None, 0
        self.calm_step_us = 0  # before whatever is not settled yet
        self.recorded_step_us = -(1 << 60)  # when the gateway wrote down that UTC was set
        self.rebooted = False  # the machine: nobody can tell UTC from a new monotonic clock
        self.checked_count = 0

    def check(self, holds, invariant, what):
        """Count one judgement; a broken one is kept, for an exception would end up in the gateway."""
        self.checked_count += 1
        if not holds:
            text = f"{invariant} at {self.world.loop.now_us / 1e6:.3f} s: {what}"
            self.broken.append(text)
            self.world.note("VIOLATION", text)

    # ------------------------------------------------------------------ ledger

    def durable(self, index, entry):
        kind = entry["kind"]
        self.world.note("entry", f"{index} {kind}")
        match kind:
            case "intent":
                self.intents[entry["instr_id"]] = (index, entry)
                self.stage[entry["instr_id"]] = {"intent"}
                self._intent(entry)
            case "prepared" | "commit" | "abort":
                self.stage[entry["instr_id"]].add(kind)
                if kind == "abort":
                    self.check(
                        entry["instr_id"] not in self.sent["operate"],
                        "I28",
                        "aborted after OPERATE left",
                    )
            case "outcome":
                self._outcome(entry)
            case "boot" if self.rebooted:
                self.rebooted, self.step_seen = False, None
                self.known_step_us = self.calm_step_us = self.world.clock.step_us
            case "time_step":
                self.recorded_step_us = self.world.loop.now_us
            case "plan":
                self.plans[index] = entry
                self.check(
                    sum(entry["planned_wh"].values()) == 0, "I14", "a plan's sum is not zero"
                )
            case "trade.received":
                self.received.add(entry["sha256"])
            case "operator" if entry["verb"].startswith("feeder-limits"):
                self.received.add(entry["arguments"]["sha256"])
                if entry["verb"] == "feeder-limits":
                    self.limits = (self.world.loop.now_us, entry["arguments"])
            case "readback":
                if entry["cause"] in ("foreign", "failsafe", "zero", "differs"):
                    self.foreign_us = None

    def _intent(self, entry):
        moves = any(s["p_w"] for s in entry["setpoints"])
        if not moves:
            return
        now_us = self.world.loop.now_us
        for name in ("estop", "local", "fault"):
            since_us = self.since.get(name)
            held = since_us is not None and now_us - since_us > SETTLED_US
            self.check(
                not held, "I30" if name == "estop" else "I25", f"power intended under {name}"
            )
        stepped_us = self.since.get("step")  # seen by a gateway that lives
        fresh = stepped_us is not None and 2_000_000 < now_us - stepped_us < 55_000_000
        large = fresh and now_us - stepped_us > SEEN_US and abs(self.step_size_us) > 1_100_000
        self.check(not large, "I25", "power intended by a clock that was wrong (law 10)")
        # Who wrote the last step down counts from there, also if he was away for a while then.
        if self.stepped_us <= self.recorded_step_us < now_us - 55_000_000:
            fresh = False
        opened = entry["authority"] == "plan"
        # Degraded time may go on with what moves already (permissive of §1.3).
        moving = self._moving() or self.world.stands_still  # what stands still shows power of then
        self.check(not (fresh and opened and not moving), "I40", "opened after a step")

    def _moving(self):
        plant = self.world.plant
        just = self.world.loop.now_us - plant.dropped_us < 2_000_000  # not polled yet
        return just or any(plant.set_w.values())

    def _outcome(self, entry):
        self._no_false_difference(entry)
        if entry["outcome"] == "failed":
            self.differs_us[entry["instr_id"]] = self.world.loop.now_us
        if entry["outcome"] != "executed" or entry["instr_id"] not in self.sent["select"]:
            return
        intent = self.intents[entry["instr_id"]][1]
        plant, now_us = self.world.plant, self.world.loop.now_us
        told = {s["terminal"]: s["p_w"] for s in intent["setpoints"] if s["mode"] == "P_Q"}
        done = plant.carried(entry, told)
        self.check(done, "I34", "executed, says the ledger; the plant did not")
        clipped = plant.clip_percent < 100 and now_us - plant.clip_us > 1_000_000
        moves = any(s["p_w"] for s in intent["setpoints"])
        self.check(not (clipped and moves), "I34", "executed, though the station clips")
        words = {r["code"] for r in entry["reasons"]}
        same = all(
            entry["active"].get(t) == p
            or ("derated" in words and 0 <= abs(entry["active"][t]) < abs(p))
            for t, p in told.items()
        )
        self.check(
            "derated" not in words or now_us - plant.short_us < 70_000_000, "I34", "derated?"
        )
        self.check(same, "I34", f"executed with another echo: {told} {entry['active']}")

    def _no_false_difference(self, entry):
        """A converter that says what it can carry and holds that much differs in nothing."""
        plant, now_us = self.world.plant, self.world.loop.now_us
        differs = any(r["code"] == "readback_differs" for r in entry["reasons"])
        mine = differs and plant.active == entry["instr_id"] and plant.short
        clipped = plant.clip_percent < 100 or now_us - plant.clip_us < 90_000_000
        strange = now_us - plant.strange_us < 12_000_000
        self.check(not mine or clipped or strange, "I34", "a derated terminal is called different")

    # -------------------------------------------------------------------- wire

    def writes(self, what, under_way):
        self.check(not under_way or what == "command", "I26", f"{what} while another write is out")

    def _known(self, instruction, staged):
        found = self.intents.get(instruction.id)
        self.check(found is not None, "I17", "bytes leave without a durable intent")
        if found is None:
            return None
        self.check(found[1]["staged"] == staged.hex(), "I17", "bytes differ from the intent's")
        return found[1]

    def sends_select(self, instruction, staged):
        self.check(instruction.id not in self.sent["select"], "I18", "SELECT sent twice")
        self.sent["select"].add(instruction.id)
        entry = self._known(instruction, staged)
        if entry is not None:
            self._in_time_to_live("SELECT", entry)

    def _in_time_to_live(self, what, entry):
        late_us = self.world.clock.mono_us() - entry["expires_mono_us"]
        self.check(late_us <= 0, "I24", f"{what} leaves {late_us / 1e6:.1f} s late")

    def sends_operate(self, instruction):
        self.check(instruction.id not in self.sent["operate"], "I18", "OPERATE sent twice")
        self.sent["operate"].add(instruction.id)
        entry = self._known(instruction, self.world.station.staged_block(instruction))
        stages = self.stage.get(instruction.id, set())
        self.check({"prepared", "commit"} <= stages, "I28", f"OPERATE after {sorted(stages)}")
        if entry is not None:
            self._in_time_to_live("OPERATE", entry)
        if entry is not None and any(s.p_w for s in instruction.setpoints):
            self._authorised(instruction, entry)

    def _authorised(self, instruction, entry):
        """Power has a plan, its sign and its size, and its time."""
        if entry["authority"] == "failsafe":  # a step on the way to zero
            self._towards_zero(instruction)
            return
        plan = self.plans.get(entry["plan_index"])
        self.check(plan is not None, "I19", f"power without a plan: {entry['authority']}")
        if plan is None:
            return
        start_ms, end_ms = (utc_ms_from(plan["interval"][k]) for k in ("start", "end"))
        now_ms = self.world.clock.utc_us() // 1000
        steady = self.world.loop.now_us - self.stepped_us > 3_000_000
        if steady:
            inside = start_ms - 1500 <= now_ms <= end_ms + 3500
            inside = inside or entry["authority"] in ("adopt", "close")
            self.check(inside, "L2", f"operated {now_ms - start_ms} ms after the start")
            over_ms = now_ms + instruction.ttl_s * 1000 - end_ms
            self.check(over_ms <= 13_000, "I24", f"lives {over_ms} ms beyond its interval")
        sop = self.world.site.sop
        for s in instruction.setpoints:
            if s.terminal == sop.master:
                self.check(s.p_w == 0, "I23", "the master was scheduled")
                continue
            terminal = sop.terminal(s.terminal)
            p_w = entry.get("toward", {}).get(s.terminal, s.p_w)  # where a step leads to counts
            mean_w = tracking.mean_w(plan["planned_wh"][s.terminal], end_ms - start_ms)
            band_w = max(abs(mean_w) // 10, terminal.s_va // 50) + 10
            if entry["authority"] in ("plan", "tracking"):
                cut = self.world.derated_us is not None or self.limits is not None
                derated = cut and abs(p_w) < abs(mean_w)
                self.check(
                    derated or abs(p_w - mean_w) <= band_w,
                    "I20",
                    f"{s.terminal} {p_w} for {mean_w}",
                )
            self.check(p_w * mean_w >= 0 or abs(p_w) <= band_w, "I20", f"{s.terminal} wrong sign")
            available = min(terminal.s_va, self.world.available_va[s.terminal])
            known = self.world.derated_us is None or (
                self.world.loop.now_us - self.world.derated_us > SETTLED_US
            )
            if known and entry["authority"] in ("plan", "tracking"):
                both = p_w**2 + s.q_var**2 <= available**2
                self.check(both, "I20", f"{s.terminal} over what it can carry")
            self._within_limits(p_w, terminal, entry, now_ms)
        plant = self.world.plant
        restarted = self.world.loop.now_us - plant.start_us < 3_000_000  # not polled yet
        self.check(restarted or plant.watchdog_ds == 50, "I25", "power without its watchdog")

    def _towards_zero(self, instruction):
        plant = self.world.plant
        for s in instruction.setpoints:
            was_w = plant.set_w[s.terminal]
            less = abs(s.p_w) <= abs(was_w) and s.p_w * was_w >= 0
            self.check(less, "I19", f"{s.terminal} from {was_w} W to {s.p_w} W by the fail-safe")

    def _within_limits(self, p_w, terminal, entry, now_ms):
        """What a system operator sent is followed from the next decision on (I20)."""
        if self.limits is None or entry["authority"] not in ("plan", "tracking"):
            return
        since_us, sent = self.limits
        start_ms, end_ms = (utc_ms_from(sent["valid"][k]) for k in ("start", "end"))
        acts_ms = max(now_ms, entry["act_ms"])
        if not start_ms <= acts_ms < end_ms or self.world.loop.now_us - since_us < SETTLED_US:
            return
        for limit in sent["limits"]:
            if limit["domain"] == terminal.domain:
                inside = limit["p_w_min"] <= p_w <= limit["p_w_max"]
                self.check(inside, "I20", f"{terminal.id} {p_w} over {limit}")

    def operated(self, ack, instruction):
        """OPERATE acted: whatever subset of the change is reached, the master can carry it."""
        plant = self.world.plant
        s_va = self.world.site.sop.terminal(plant.master).s_va
        self.check(
            plant.worst_master_w <= s_va * MASTER_RATIO_MAX,
            "I22",
            f"master at {plant.worst_master_w:.0f} W",
        )
        if ack is Ack.EXECUTED:
            meant = self.world.station.staged_block(instruction)
            self.check(plant.staged == meant, "I28", "operated a block that nobody intended")

    def every_subset(self, instruction):
        """Whichever of separate controllers take a step, and whichever do not (I22)."""
        plant, now_us = self.world.plant, self.world.loop.now_us
        if now_us - max(plant.strange_us, plant.short_us, plant.fell_us) <= 12_000_000:
            return  # a converter holds less than it was told, and its neighbours follow
        if self.world.stands_still or now_us - self.ended_us.get("unit", 0) < 2_500_000:
            return  # what one shows is of then, and nobody could know yet
        s_va = self.world.site.sop.terminal(plant.master).s_va
        after = {s.terminal: s.p_w for s in instruction.setpoints if s.terminal != plant.master}
        pairs = [{plant.held_w(t), p_w} for t, p_w in after.items()]
        worst_w = max(abs(sum(chosen) + LOSS_W) for chosen in itertools.product(*pairs))
        self.check(
            worst_w <= s_va, "I22", f"some subset of the step puts {worst_w} W on the master"
        )
        if all(plant.held_w(t) == p_w for t, p_w in after.items()):
            return  # adopted: nothing moves by it
        # That counts from where all are: nobody is on the ramp of the step before any more.
        away = [
            t for t in after if abs(plant.p_w[t] - plant.target_w(t)) > s_va * AWAY_PERCENT / 100
        ]
        waited_us = now_us - max(plant.held_us[t] for t in after)
        text = f"{away} on their way since {waited_us / 1e6:.1f} s when the next step leaves"
        self.check(not away or waited_us > ARRIVAL_US, "I22", text)

    def guard(self, serious, refused):
        self.check(not serious, "I20", f"the last guard had to refuse: {refused}")

    def sends_command(self, command):
        if command in (Command.ENTER_STANDBY, Command.STOP):
            self.stop_us = self.world.loop.now_us
            return  # STOP waits for nobody and is written down after it
        name = command if isinstance(command, str) else command.name
        mine = [
            i for i, (_, e) in self.intents.items()
            if e.get("command") == name and i not in self.sent["command"]
        ]  # fmt: skip
        self.check(bool(mine), "I17", f"{name} without a durable intent")
        self.sent["command"].update(mine)

    def sends_heartbeat(self):
        self.world.beat_us = self.world.loop.now_us

    # ------------------------------------------------------------------ market

    def acknowledges(self, inbound):
        sha256 = hashlib.sha256(inbound.payload).hexdigest()
        self.check(sha256 in self.received, "I6", "acknowledged to the broker before durable")

    def publishes(self, topic, payload):
        if topic.endswith(("/acknowledgement", "/delivery")):
            index = body_of(payload)["ledger_index"]
            entries = self.world.disk.entries
            self.check(
                index < len(entries), "I6", f"an answer names entry {index} ahead of the disk"
            )
            kinds = (
                ("delivery",)
                if topic.endswith("/delivery")
                else ("trade.accepted", "trade.refused", "operator")
            )
            self.check(
                index >= len(entries) or entries[index]["kind"] in kinds,
                "I6",
                "names another entry",
            )

    def left(self, state):
        """An orderly end: nothing is open that could be read, and nothing of ours moves."""
        world, plant = self.world, self.world.plant
        net = world.network
        reached = not net.severed and not net.trouble and not world.stands_still
        ours = not (plant.foreign or plant.local or plant.estop or plant.fault_bits)
        if reached and ours and not world.disk_is_slow:
            self.check(not state.open_intents, "I18", "left with an instruction open")
            moving = any(plant.set_w[t.id] for t in plant.slaves) and plant.state is State.RUN
            self.check(not moving, "L4", "left with power on")

    # -------------------------------------------------------------------- field

    def begins(self, name):
        self.since.setdefault(name, self.world.loop.now_us)

    def ends(self, name):
        self.since.pop(name, None)
        self.ended_us[name] = self.world.loop.now_us

    def second(self):
        """Once a second: what must hold of the true state whatever the gateway believes."""
        world, plant, now_us = self.world, self.world.plant, self.world.loop.now_us
        plant.advance(now_us)
        self._watch_clock(now_us)
        moving = any(plant.set_w.values()) and plant.state is State.RUN
        if moving and not plant.foreign:
            silent_us = now_us - max(plant.last_beat_us, plant.beat_us or 0)
            self.check(
                silent_us <= 12_000_000, "L4", f"power after {silent_us / 1e6:.1f} s of silence"
            )
            unseen_us = now_us - max(world.frozen_us, world.living_us, plant.told_us)
            unseen = world.stands_still and unseen_us > UNSEEN_US
            self.check(not unseen, "L4", f"power for {unseen_us / 1e6:.1f} s that nobody sees")
            self._compensated(now_us)
        if world.site.separate:
            self._all_fall(now_us)
        deaf = world.network.trouble.get("answer-lost", 0) >= 100  # nobody can know
        if plant.foreign and moving and world.reachable_us is not None and world.alive and not deaf:
            since_us = max(world.reachable_us, world.foreign_us, world.living_us, world.troubled_us)
            if now_us - since_us > DETECT_US and not world.disk_is_slow:
                seen = world.recorder is not None and (
                    world.recorder.state.foreign or not world.recorder.state.adopted
                )
                stopping = now_us - self.stop_us < 3_000_000  # whoever's it is
                self.check(seen or stopping, "I27", "a stranger's setpoint goes unnoticed")
        if plant.foreign or not moving:
            return
        self._in_time(now_us)

    def _compensated(self, now_us):
        """What the station cut in silence is taken to zero in seconds (D14)."""
        world, active = self.world, self.world.plant.active
        known_us = self.differs_us.get(active)
        if known_us is None or world.reachable_us is None or world.network.trouble:
            return
        plant, held = world.plant, world.recorder.state.held
        shows = {t.id: plant.held_w(t.id) * plant.clip_percent // 100 for t in plant.slaves}
        if all(held[t] == p_w for t, p_w in shows.items()):
            return  # what was sent before it, or what came late: it is taken for what it is
        since_us = max(known_us, world.reachable_us, world.living_us, world.troubled_us)
        if world.alive and not world.disk_is_slow and not world.plant.local:
            late_us = now_us - since_us
            self.check(late_us < DETECT_US, "I29", f"held for {late_us / 1e6:.1f} s, not as sent")

    def _all_fall(self, now_us):
        """Where one of several controllers went to zero alone the others end within seconds."""
        plant = self.world.plant
        alone_us = now_us - max(plant.fell_us, plant.strange_us)
        old = [
            t.id for t in plant.slaves if plant.set_w[t.id] and plant.held_us[t.id] < plant.fell_us
        ]
        if alone_us > FALL_US and not plant.foreign:
            self.check(not old, "I29", f"{old} go on {alone_us / 1e6:.1f} s after another fell")

    def _watch_clock(self, now_us):
        """A step counts from when a living gateway had time to see it; what undid itself is none."""
        step_us = self.world.clock.step_us
        if not self.world.alive or abs(step_us - self.known_step_us) < 550_000:
            self.step_seen = None
        elif self.step_seen is None or self.step_seen[0] != step_us:
            self.step_seen = (step_us, now_us)
        elif now_us - self.step_seen[1] >= SEEN_US and not self.world.disk_is_slow:
            if now_us - self.since.get("step", -(1 << 60)) > 60_000_000:
                self.calm_step_us = self.known_step_us
            self.step_size_us = step_us - self.calm_step_us
            self.known_step_us, self.since["step"] = step_us, self.step_seen[1]

    def _in_time(self, now_us):
        """Nobody is under power outside an interval that was planned for it."""
        found = self.intents.get(self.world.plant.active)
        if found is None:
            return
        plan = self.plans.get(found[1]["plan_index"])
        if plan is None or now_us - self.stepped_us < 3_600_000_000:
            return
        end_ms = utc_ms_from(plan["interval"]["end"])
        late_ms = self.world.clock.utc_us() // 1000 - end_ms
        self.check(late_ms <= 13_000, "I24", f"power {late_ms} ms after the interval's end")
