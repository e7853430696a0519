"""Alarms come while their cause lasts and go when it is over, as the true state says.

A cause counts from when a living gateway could see it: a start, a cut line, a slow disk, a stall or a
clock that was set begin the wait anew, for no promise is made then.
"""

from gateway.core.interlock import STATUS_ESTOP
from gateway.core.standing import GROWS
from gateway.runtime.look import Look

LAG_S = 12.0  # poll, scan, watch, disk
BUSY_W = 20_000  # so much held must move a meter's counters
SHORT = {"A-101": "estop", "A-104": "unarmed", "A-110": "fault", "A-162": "frozen"}
"""What may come and go, or begin anew, between two seconds."""
STEP_S = 95.0  # after a step readings do not count for a while


class SimLook(Look):
    """The gateway's own look; the disk of the machine that simulates is not looked at."""

    def _disk_free_ppm(self):
        return None

    def _file_signature(self):
        return (0, 0)

    def _file_digest(self):
        return ""


class AlarmOracle:
    """Once a second: what must stand, what must not."""

    def __init__(self, world):
        self.world = world
        self.since = {}  # code -> (what is true, since when in s)
        self.blind_s = {True: 0.0, False: 0.0}  # since then (the field, the box) could be seen
        self.least_w = {}  # held at a terminal since its meter stood still
        self.then_s = 0.0
        self.then_life = None
        # code -> what is true (None: nobody can say), delays to come and to go, of the field
        self.laws = {
            "A-101": (lambda w: self._shown(w.plant.estop), 0, 2, True),
            "A-104": (self._unarmed, 0, 0, True),
            "A-105": (lambda w: w.recorder.state.foreign, 0, 0, True),
            "A-110": (self._fault, 1, 5, True),
            "A-120": (self._lost, 3 + 5, 5, False),
            "A-121": (lambda w: bool(w.mute_meters), 15 + 60, 5 + 10, True),
            "A-122": (lambda w: not w.market.online, 60, 10, False),
            "A-123": (lambda _: False, 0, 0, False),
            "A-140": (lambda _: False, 0, 0, False),
            "A-162": (self._standing, 30 + 5 + 5, 5 + 30, True),
        }

    def second(self):
        world, now_s = self.world, self.world.loop.now_us / 1e6
        stepped = now_s - world.oracle.stepped_us / 1e6 < STEP_S
        anew = now_s - self.then_s > 2.0 or world.life is not self.then_life or stepped
        self.then_s, self.then_life = now_s, world.life
        sees = {of_field: self._sees(of_field=of_field) for of_field in (True, False)}
        for of_field, seen in sees.items():
            if anew or not seen:
                self.blind_s[of_field] = now_s
        for code, (truth, comes_s, goes_s, of_field) in self.laws.items():
            true = truth(world) if sees[of_field] else None
            before, began_s = self.since.get(code, (None, now_s))
            if true != before:
                self.since[code] = (true, now_s)
                continue
            began_s = max(began_s, world.oracle.ended_us.get(SHORT.get(code), 0) / 1e6)
            lasts_s = now_s - max(began_s, self.blind_s[of_field])
            if true is None or lasts_s < LAG_S + (comes_s if true else goes_s):
                continue
            stands = code in world.alarms.book.active
            text = "does not come" if true else "does not go"
            world.oracle.check(stands is true, "alarm", f"{code} {text} after {lasts_s:.0f} s")

    def _sees(self, *, of_field):
        """Whether the gateway can know: it lives, its disk keeps up, the station is reached."""
        world, net = self.world, self.world.network
        if not world.alive or world.alarms is None or world.disk_is_slow:
            return False
        return not of_field or (not net.severed and not net.trouble)

    def _shown(self, true):
        """What registers that stand still show is of another time."""
        return None if self.world.stands_still else bool(true)

    def _fault(self, world):
        return None if world.plant.estop else self._shown(world.plant.fault_bits)

    @staticmethod
    def _unarmed(world):
        still = world.frozen_station
        then = world.frozen_units or (still is not None and still.status_bits & STATUS_ESTOP)
        hidden = world.plant.estop or then  # an emergency stop, true or of then
        return None if hidden else not world.recorder.state.armed

    @staticmethod
    def _lost(world):
        if world.network.trouble or world.poller.last is None:
            return None
        return world.network.severed

    def _standing(self, world):
        """The station's sign of life, or the counters of a meter at a terminal under power."""
        if world.stands_still:
            return True
        if not world.frozen_meters:
            return False
        held = world.recorder.state.held
        least = self.least_w
        grew = any(abs(held[t]) > GROWS * least.get(t, abs(held[t])) for t in world.frozen_meters)
        self.least_w = {
            t: abs(held[t]) if grew else min(abs(held[t]), least.get(t, abs(held[t])))
            for t in world.frozen_meters
        }
        if grew:  # what is more than twice as much begins anew
            return None
        steady = all(
            abs(held[t]) >= BUSY_W and abs(world.plant.p_w[t]) >= BUSY_W
            for t in world.frozen_meters
        )
        repeats = all(p_w is not None for _, _, p_w in world.frozen_meters.values())
        return True if steady and repeats and not world.mute_meters else None
