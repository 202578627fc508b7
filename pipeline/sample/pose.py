"""How a body holds itself: joint angles of every action as a function of time, and the joints that follow.

A pose is a vector of angles in radians. Angles of thighs and upper arms count forward from hanging down; `out` lifts an
arm sideways; `fall` tips the whole body backwards; `lift` is metres above the ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum

import numpy as np

from pipeline.sample.definitions import load
from pipeline.sample.geometry import Floats, clamp01, smooth

_ANGLES = (
    "lean", "twist", "hip_l", "hip_r", "knee_l", "knee_r", "arm_l", "arm_r",
    "out_l", "out_r", "elbow_l", "elbow_r", "fall", "lift",
)  # fmt: skip
Joint = tuple[float, float, float]
_INDEX = {name: i for i, name in enumerate(_ANGLES)}


class Action(StrEnum):
    """What a person does."""

    WALK = "walk"
    LIMP = "limp"
    JOG = "jog"
    RUN = "run"
    STAND = "stand"
    CHAT = "chat"
    PHONE = "phone"
    REACH = "reach"
    GUARD = "guard"
    PUNCH = "punch"
    KICK = "kick"
    RECOIL = "recoil"
    FALL_BACK = "fall_back"
    THROWN = "thrown"
    LIE = "lie"
    GET_UP = "get_up"
    AIM = "aim"
    HANDS_UP = "hands_up"
    GRAB = "grab"
    STRIKE = "strike"
    SPRAY = "spray"
    POUR = "pour"
    TOSS = "toss"
    ARGUE = "argue"
    STUMBLE = "stumble"
    HAND_OVER = "hand_over"


def pose(**angles: float) -> Floats:
    """Return the pose with the given angles, all others 0."""
    vector = np.zeros(len(_ANGLES))
    for name, value in angles.items():
        vector[_INDEX[name]] = value
    return vector


_POSES = {name: pose(**angles) for name, angles in load("poses", dict[str, dict[str, float]]).items()}


def _gait(gone_m: float, stride_m: float, swing: float, knee: float, **rest: float) -> Floats:
    phase = math.tau * gone_m / stride_m
    wave, lead = math.sin(phase), math.cos(phase)
    elbow = rest.pop("elbow", 0.25)
    arm_swing = rest.pop("arm", swing * 0.8)
    bounce = rest.pop("bounce", 0.0)
    return pose(
        hip_l=swing * wave, hip_r=-swing * wave,
        knee_l=0.1 + knee * max(0.0, lead), knee_r=0.1 + knee * max(0.0, -lead),
        arm_l=-arm_swing * wave, arm_r=arm_swing * wave, out_l=0.1, out_r=0.1, elbow_l=elbow, elbow_r=elbow,
        twist=0.12 * wave, lift=bounce * abs(lead), **rest,
    )  # fmt: skip


def _mix(a: str, b: str, u: float) -> Floats:
    """Return the pose a fraction `u` of the way from one of the table to another."""
    mixed: Floats = _POSES[a] + (_POSES[b] - _POSES[a]) * u
    return mixed


def _snap(s: float) -> float:
    """Return 0..1..0 within one unit of `s`: a quick thrust and a slower return."""
    u = s % 1.0
    return smooth(u / 0.28) if u < 0.28 else 1 - smooth((u - 0.4) / 0.5)


def _punch(s: float) -> Floats:
    blow = s * 2.3
    return _mix("guard", "right_punch" if int(blow) % 2 else "left_punch", _snap(blow))


def _thrown(s: float) -> Floats:
    u = clamp01(s / 0.9)
    tumbling = _mix("flailing", "on_back", smooth(u))
    tumbling[_INDEX["lift"]] = 4 * 0.9 * u * (1 - u)
    return tumbling


def _get_up(s: float) -> Floats:
    if s < 1.0:
        return _mix("on_back", "crouch", smooth(s))
    return _mix("crouch", "stand", smooth((s - 1.0) / 0.8))


def _aim(s: float) -> Floats:
    jab = math.sin(13 * s) * (0.6 + 0.4 * math.sin(1.9 * s))
    return _POSES["aim"] + pose(arm_r=0.22 * jab, lean=0.12 * jab, twist=0.15 * jab, knee_l=0.1 * jab, arm_l=0.4 * jab)


def _hands_up(s: float) -> Floats:
    shiver = math.sin(17 * s)
    return _POSES["hands_up"] + pose(
        arm_l=0.2 * shiver, arm_r=-0.2 * shiver, out_l=0.15 * shiver, lean=-0.06 * math.sin(6 * s)
    )


def _spray(s: float) -> Floats:
    side, sway = math.sin(math.tau * 0.9 * s), math.sin(6.3 * s)
    arm = pose(arm_r=0.5 * math.sin(9.1 * s), out_r=0.45 * side)
    return _POSES["spray"] + arm + pose(lean=0.12 * sway, hip_l=0.2 * sway, knee_l=0.3 * abs(sway))


def _toss(s: float) -> Floats:
    raised = _mix("stand", "arm_raised", smooth(s / 0.35))
    thrown: Floats = raised + (_POSES["grab"] - raised) * smooth((s - 0.4) / 0.2)
    return thrown


_GAITS: dict[Action, Callable[[float], Floats]] = {
    Action.WALK: lambda m: _gait(m, 1.42, 0.44, 0.75),
    Action.LIMP: lambda m: _gait(m, 0.9, 0.24, 0.4, lean=0.3, elbow=1.0),
    Action.JOG: lambda m: _gait(m, 1.95, 0.55, 1.2, lean=0.1, elbow=1.5, arm=0.5, bounce=0.03),
    Action.RUN: lambda m: _gait(m, 2.5, 0.85, 1.6, lean=0.3, elbow=1.5, arm=1.1, bounce=0.07),
}
_ACTIONS: dict[Action, Callable[[float], Floats]] = {
    Action.STAND: lambda s: _POSES["stand"] + pose(twist=0.08 * math.sin(0.9 * s), lean=0.02 * math.sin(0.7 * s)),
    Action.CHAT: lambda s: _mix("stand", "talk", 0.5 + 0.5 * math.sin(1.7 * s) * math.sin(0.6 * s)),
    Action.PHONE: lambda s: _POSES["phone"] + pose(twist=0.05 * math.sin(1.1 * s)),
    Action.REACH: lambda s: _mix("stand", "reach", 0.5 - 0.5 * math.cos(1.5 * s)),
    Action.GUARD: lambda s: _POSES["guard"] + pose(lift=0.03 * abs(math.sin(7 * s)), twist=0.15 * math.sin(5 * s)),
    Action.PUNCH: _punch,
    Action.KICK: lambda s: _mix("kick_back", "kick_up", _snap(s * 1.5)),
    Action.RECOIL: lambda s: _mix("guard", "hit", _snap(s * 2.3 + 0.85)),
    Action.FALL_BACK: lambda s: _mix("flailing", "on_back", clamp01(s / 0.65) ** 2),
    Action.THROWN: _thrown,
    Action.LIE: lambda s: _POSES["on_back"] + pose(elbow_l=0.02 * math.sin(s)),
    Action.GET_UP: _get_up,
    Action.AIM: _aim,
    Action.HANDS_UP: _hands_up,
    Action.GRAB: lambda s: _mix("stand", "grab", _snap(min(s, 0.95))),
    Action.STRIKE: lambda s: _mix("overhead", "down", _snap(s * 1.8)),
    Action.SPRAY: _spray,
    Action.POUR: lambda s: (
        _POSES["pour"] + pose(arm_r=0.55 * math.sin(9 * s), out_r=0.5 * math.sin(5 * s), lean=0.1 * math.sin(9 * s))
    ),
    Action.TOSS: _toss,
    Action.ARGUE: lambda s: _mix("talk", "fling", 0.5 + 0.5 * math.sin(4.3 * s) * math.cos(1.1 * s)),
    Action.STUMBLE: lambda s: _mix("stand", "hit", 0.6 * math.sin(math.pi * clamp01(s / 0.7))),
    Action.HAND_OVER: lambda s: _mix("stand", "reach", math.sin(math.pi * clamp01(s / 1.2))),
}


def pose_of(action: Action, seconds: float, gone_m: float) -> Floats:
    """Return the pose `seconds` into an action, for a person who has walked `gone_m` metres in all."""
    gait = _GAITS.get(action)
    return gait(gone_m) if gait else _ACTIONS[action](seconds)


# Lengths as fractions of the body height.
_THIGH = _SHIN = 0.245
_TORSO, _NECK = 0.30, 0.115
_UPPER_ARM, _FOREARM = 0.165, 0.165
_SHOULDER, _HIP = 0.115, 0.055
_SOLE = 0.045

PELVIS, CHEST, HEAD = 0, 1, 2
LEFT_ARM, RIGHT_ARM = (3, 4, 5), (6, 7, 8)
LEFT_LEG, RIGHT_LEG = (9, 10, 11, 15), (12, 13, 14, 16)


FALL = _INDEX["fall"]


def joints(angles: Floats, height_m: float) -> Floats:
    """Return the 17 joints of a pose in metres, shape (17, 3): forward, left, up from the place it stands on.

    The lowest joint rests on the ground, whatever the pose.
    """
    lean, twist, hip_l, hip_r, knee_l, knee_r, arm_l, arm_r, out_l, out_r, elbow_l, elbow_r, fall, lift = (
        angles.tolist()
    )
    sin, cos = math.sin, math.cos
    chest = (_TORSO * sin(lean), _TORSO * cos(lean))
    rows = [(0.0, 0.0, 0.0)] * 17
    rows[CHEST] = (chest[0], 0.0, chest[1])
    rows[HEAD] = ((_TORSO + _NECK) * sin(lean) + 0.01, 0.0, (_TORSO + _NECK) * cos(lean))
    for side, chain, arm, out, elbow in ((1, LEFT_ARM, arm_l, out_l, elbow_l), (-1, RIGHT_ARM, arm_r, out_r, elbow_r)):
        rows[chain[0]] = (chest[0] - side * _SHOULDER * sin(twist), side * _SHOULDER * cos(twist), chest[1] - 0.01)
        rows[chain[1]] = _reached(rows[chain[0]], arm, side * out, _UPPER_ARM)
        rows[chain[2]] = _reached(rows[chain[1]], arm + elbow, side * out * 0.6, _FOREARM)
    for side, leg, hip, knee in ((1, LEFT_LEG, hip_l, knee_l), (-1, RIGHT_LEG, hip_r, knee_r)):
        shin = hip - knee
        rows[leg[0]] = (0.0, side * _HIP, 0.0)
        rows[leg[1]] = _reached(rows[leg[0]], hip, 0.0, _THIGH)
        rows[leg[2]] = _reached(rows[leg[1]], shin, 0.0, _SHIN)
        ahead, aside, high = rows[leg[2]]
        rows[leg[3]] = (ahead + 0.085 * cos(shin * 0.5), aside, high + 0.085 * sin(shin * 0.5) - 0.01)
    points: Floats = np.array(rows)
    if fall:
        points[:, 2] += _THIGH + _SHIN
        upright = points.copy()
        points[:, 0] = upright[:, 0] * cos(fall) - upright[:, 2] * sin(fall)
        points[:, 2] = upright[:, 0] * sin(fall) + upright[:, 2] * cos(fall)
    points[:, 2] += _SOLE - points[:, 2].min()
    points *= height_m
    points[:, 2] += lift
    return points


def _reached(start: Joint, forward: float, out: float, length: float) -> Joint:
    """Return the end of a limb that hangs from a joint, lifted forward and out to the left by angles."""
    ahead, aside, high = start
    return (
        ahead + length * math.sin(forward) * math.cos(out),
        aside + length * math.sin(out),
        high - length * math.cos(forward) * math.cos(out),
    )
