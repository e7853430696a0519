"""Order, types and lengths of the points of the SunSpec models a terminal carries.

A model is a row of ``Name:type`` words in register order; ``u16 i16 e16 b16 u32 i32 b32 u64 sf
pad`` and ``sN`` for a string of N registers. A trailing ``!`` marks what may be written.
"""

from __future__ import annotations

from dataclasses import dataclass

SIZES = {
    "u16": 1, "i16": 1, "e16": 1, "b16": 1, "sf": 1, "pad": 1,
    "u32": 2, "i32": 2, "b32": 2, "f32": 2, "a32": 2, "u64": 4,
}  # fmt: skip
# What a register holds where the device does not implement the point.
ABSENT: dict[str, tuple[int, ...]] = {
    "u16": (0xFFFF,), "i16": (0x8000,), "e16": (0xFFFF,), "b16": (0xFFFF,), "sf": (0x8000,),
    "pad": (0x8000,), "u32": (0xFFFF, 0xFFFF), "i32": (0x8000, 0), "b32": (0xFFFF, 0xFFFF),
    "f32": (0x7FC0, 0), "a32": (0, 0), "u64": (0xFFFF,) * 4,
}  # fmt: skip

_TOTAL_AND_PHASES = ("", "PhA", "PhB", "PhC")
_PHASE = "W{0}:i16 VA{0}:i16 Var{0}:i16 PF{0}:i16 A{0}:i16 V{1}:u16 V{0}:u16 TotWhInj{0}:u64 TotWhAbs{0}:u64 TotVarhInj{0}:u64 TotVarhAbs{0}:u64"  # noqa: E501


def _by_phase(kind: str, names: str, scale: str | None = None) -> str:
    """Totals, each followed by its three phases."""
    words = [f"{name}{phase}:{kind}" for name in names.split() for phase in _TOTAL_AND_PHASES]
    return " ".join(words if scale is None else [*words, f"{scale}:sf"])


LAYOUTS: dict[int, str] = {
    1: "Mn:s16 Md:s16 Opt:s8 Vr:s8 SN:s16 DA:u16! Pad:pad",
    701: " ".join(
        (
            "ACType:e16 St:e16 InvSt:e16 ConnSt:e16 Alrm:b32 DERMode:b32 W:i16 VA:i16 Var:i16",
            "PF:i16 A:i16 LLV:u16 LNV:u16 Hz:u32 TotWhInj:u64 TotWhAbs:u64 TotVarhInj:u64",
            "TotVarhAbs:u64 TmpAmb:i16 TmpCab:i16 TmpSnk:i16 TmpTrns:i16 TmpSw:i16 TmpOt:i16",
            _PHASE.format("L1", "L1L2"),
            _PHASE.format("L2", "L2L3"),
            _PHASE.format("L3", "L3L1"),
            "ThrotPct:u16 ThrotSrc:b32 A_SF:sf V_SF:sf Hz_SF:sf W_SF:sf PF_SF:sf VA_SF:sf",
            "Var_SF:sf TotWh_SF:sf TotVarh_SF:sf Tmp_SF:sf MnAlrmInfo:s32",
        )
    ),
    702: " ".join(
        (
            "WMaxRtg:u16 WOvrExtRtg:u16 WOvrExtRtgPF:u16 WUndExtRtg:u16 WUndExtRtgPF:u16",
            "VAMaxRtg:u16 VarMaxInjRtg:u16 VarMaxAbsRtg:u16 WChaRteMaxRtg:u16",
            "WDisChaRteMaxRtg:u16 VAChaRteMaxRtg:u16 VADisChaRteMaxRtg:u16 VNomRtg:u16",
            "VMaxRtg:u16 VMinRtg:u16 AMaxRtg:u16 PFOvrExtRtg:u16 PFUndExtRtg:u16",
            "ReactSusceptRtg:u16 NorOpCatRtg:e16 AbnOpCatRtg:e16 CtrlModes:b32",
            "IntIslandCatRtg:b16 WMax:u16 WMaxOvrExt:u16 WOvrExtPF:u16 WMaxUndExt:u16",
            "WUndExtPF:u16 VAMax:u16 VarMaxInj:u16 VarMaxAbs:u16 WChaRteMax:u16",
            "WDisChaRteMax:u16 VAChaRteMax:u16 VADisChaRteMax:u16 VNom:u16 VMax:u16 VMin:u16",
            "AMax:u16 PFOvrExt:u16 PFUndExt:u16 IntIslandCat:b16 W_SF:sf PF_SF:sf VA_SF:sf",
            "Var_SF:sf V_SF:sf A_SF:sf S_SF:sf",
        )
    ),
    703: " ".join(
        (
            "ES:e16! ESVHi:u16 ESVLo:u16 ESHzHi:u32 ESHzLo:u32 ESDlyTms:u32 ESRndTms:u32",
            "ESRmpTms:u32 ESDlyRemTms:u32 V_SF:sf Hz_SF:sf",
        )
    ),
    704: " ".join(
        (
            "PFWInjEna:e16 PFWInjEnaRvrt:e16 PFWInjRvrtTms:u32 PFWInjRvrtRem:u32 PFWAbsEna:e16",
            "PFWAbsEnaRvrt:e16 PFWAbsRvrtTms:u32 PFWAbsRvrtRem:u32 WMaxLimPctEna:e16",
            "WMaxLimPct:u16 WMaxLimPctRvrt:u16 WMaxLimPctEnaRvrt:e16 WMaxLimPctRvrtTms:u32",
            "WMaxLimPctRvrtRem:u32 WSetEna:e16! WSetMod:e16! WSet:i32! WSetRvrt:i32! WSetPct:i16",
            "WSetPctRvrt:i16 WSetEnaRvrt:e16! WSetRvrtTms:u32! WSetRvrtRem:u32 VarSetEna:e16!",
            "VarSetMod:e16! VarSetPri:e16! VarSet:i32! VarSetRvrt:i32! VarSetPct:i16",
            "VarSetPctRvrt:i16 VarSetEnaRvrt:e16! VarSetRvrtTms:u32! VarSetRvrtRem:u32 WRmp:u16!",
            "WRmpRef:e16 VarRmp:u16 AntiIslEna:e16 PF_SF:sf WMaxLimPct_SF:sf WSet_SF:sf",
            "WSetPct_SF:sf VarSet_SF:sf VarSetPct_SF:sf PFWInj_PF:u16 PFWInj_Ext:e16",
            "PFWInjRvrt_PF:u16 PFWInjRvrt_Ext:e16 PFWAbs_PF:u16 PFWAbs_Ext:e16",
            "PFWAbsRvrt_PF:u16 PFWAbsRvrt_Ext:e16",
        )
    ),
    714: " ".join(
        (
            "PrtAlrms:b32 NPrt:u16 DCA:i16 DCW:i16 DCWhInj:u64 DCWhAbs:u64 DCA_SF:sf DCV_SF:sf",
            "DCW_SF:sf DCWH_SF:sf Tmp_SF:sf Prt_PrtTyp:e16 Prt_ID:u16 Prt_IDStr:s8 Prt_DCA:i16",
            "Prt_DCV:u16 Prt_DCW:i16 Prt_DCWhInj:u64 Prt_DCWhAbs:u64 Prt_Tmp:i16 Prt_DCSta:e16",
            "Prt_DCAlrm:b32",
        )
    ),
    203: " ".join(
        (
            "A:i16 AphA:i16 AphB:i16 AphC:i16 A_SF:sf PhV:i16 PhVphA:i16 PhVphB:i16 PhVphC:i16",
            "PPV:i16 PhVphAB:i16 PhVphBC:i16 PhVphCA:i16 V_SF:sf Hz:i16 Hz_SF:sf W:i16 WphA:i16",
            "WphB:i16 WphC:i16 W_SF:sf VA:i16 VAphA:i16 VAphB:i16 VAphC:i16 VA_SF:sf VAR:i16",
            "VARphA:i16 VARphB:i16 VARphC:i16 VAR_SF:sf PF:i16 PFphA:i16 PFphB:i16 PFphC:i16",
            "PF_SF:sf",
            _by_phase("a32", "TotWhExp TotWhImp", "TotWh_SF"),
            _by_phase("a32", "TotVAhExp TotVAhImp", "TotVAh_SF"),
            _by_phase("a32", "TotVArhImpQ1 TotVArhImpQ2 TotVArhExpQ3 TotVArhExpQ4", "TotVArh_SF"),
            "Evt:b32",
        )
    ),
    213: " ".join(
        (
            "A:f32 AphA:f32 AphB:f32 AphC:f32 PhV:f32 PhVphA:f32 PhVphB:f32 PhVphC:f32 PPV:f32",
            "PPVphAB:f32 PPVphBC:f32 PPVphCA:f32 Hz:f32 W:f32 WphA:f32 WphB:f32 WphC:f32 VA:f32",
            "VAphA:f32 VAphB:f32 VAphC:f32 VAR:f32 VARphA:f32 VARphB:f32 VARphC:f32 PF:f32",
            "PFphA:f32 PFphB:f32 PFphC:f32",
            _by_phase("f32", "TotWhExp TotWhImp TotVAhExp TotVAhImp"),
            _by_phase("f32", "TotVArhImpQ1 TotVArhImpQ2 TotVArhExpQ3 TotVArhExpQ4"),
            "Evt:b32",
        )
    ),
    715: "LocRemCtl:e16 DERHb:u32 ControllerHb:u32! AlarmReset:u16! OpCtl:e16!",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a point lies and how it is encoded."""

    model_id: int
    name: str
    kind: str
    address: int
    size: int
    writable: bool


def lay_out(models: tuple[int, ...], base_address: int) -> tuple[dict[str, Place], int]:
    """Places of all points by ``model.name`` and the address of the end model."""
    places: dict[str, Place] = {}
    address = base_address + 2
    for model_id in models:
        address += 2
        for word in LAYOUTS[model_id].split():
            writable = word.endswith("!")
            name, kind = word.rstrip("!").split(":")
            size = SIZES[kind] if kind in SIZES else int(kind[1:])
            places[f"{model_id}.{name}"] = Place(
                model_id=model_id, name=name, kind=kind, address=address, size=size,
                writable=writable,
            )  # fmt: skip
            address += size
    return places, address
