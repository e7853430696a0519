"""Headings of the report in its four languages; what a check found stays as it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LANGUAGES = ("en", "de", "es", "zh")

_ROWS: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "title-sat", "Site acceptance report", "Abnahmebericht",
        "Informe de aceptación en sitio", "现场验收报告",
    ),
    (
        "title-fat", "Factory acceptance report", "Werksabnahmebericht",
        "Informe de aceptación en fábrica", "出厂验收报告",
    ),
    ("verdict", "Verdict", "Ergebnis", "Resultado", "结论"),
    ("accepted", "accepted", "abgenommen", "aceptado", "验收合格"),
    (
        "accepted with reservations", "accepted with reservations", "mit Vorbehalt abgenommen",
        "aceptado con reservas", "有保留验收",
    ),
    ("rejected", "rejected", "nicht abgenommen", "rechazado", "不合格"),
    ("incomplete", "incomplete", "unvollständig", "incompleto", "未完成"),
    ("site", "Site", "Anlage", "Sitio", "站点"),
    ("sop", "Soft open point", "Soft Open Point", "Punto abierto suave", "柔性开关"),
    ("run", "Run", "Durchlauf", "Ensayo", "试验"),
    ("plan", "Test plan", "Prüfplan", "Plan de ensayo", "试验计划"),
    ("phase", "Phase", "Phase", "Fase", "阶段"),
    ("started", "Started", "Begonnen", "Inicio", "开始"),
    ("ended", "Ended", "Beendet", "Fin", "结束"),
    ("signatures", "Signatures", "Unterschriften", "Firmas", "签名"),
    ("unsigned", "not signed", "nicht unterschrieben", "sin firmar", "未签名"),
    (
        "paper", "paper signature", "Unterschrift auf Papier",
        "firma en papel", "纸质签名",
    ),
    ("role", "Role", "Rolle", "Función", "角色"),
    ("name", "Name", "Name", "Nombre", "姓名"),
    ("key", "Key", "Schlüssel", "Clave", "密钥"),
    ("summary", "Summary", "Übersicht", "Resumen", "概要"),
    ("step", "Step", "Schritt", "Paso", "步骤"),
    ("checks", "Checks", "Prüfungen", "Comprobaciones", "检查项"),
    ("status", "Status", "Stand", "Estado", "状态"),
    ("witness", "Witness", "Zeuge", "Testigo", "见证人"),
    ("punch", "Punch list", "Mängelliste", "Lista de pendientes", "缺陷清单"),
    ("punch-none", "no punch items", "keine Mängel", "sin pendientes", "无缺陷"),
    ("number", "No.", "Nr.", "N.º", "编号"),
    ("check", "Check", "Prüfung", "Comprobación", "检查"),
    ("where", "Where", "Wo", "Dónde", "位置"),
    ("finding", "Finding", "Befund", "Hallazgo", "发现"),
    ("mend", "How to mend", "Abhilfe", "Cómo corregir", "处理方法"),
    ("open", "open", "offen", "abierto", "未关闭"),
    ("closed", "closed", "erledigt", "cerrado", "已关闭"),
    (
        "settings", "Versions and settings", "Versionen und Einstellungen",
        "Versiones y ajustes", "版本与设置",
    ),
    ("measured", "Measured", "Gemessen", "Medido", "实测"),
    ("limit", "Limit", "Grenze", "Límite", "限值"),
    ("value", "Value", "Wert", "Valor", "数值"),
    ("skipped", "skipped", "ausgelassen", "omitido", "跳过"),
    ("attempts", "attempts", "Versuche", "intentos", "次数"),
    ("evidence", "Evidence", "Nachweis", "Evidencia", "证据"),
    ("verify", "Verify with", "Prüfen mit", "Verificar con", "验证命令"),
    ("page", "page", "Seite", "página", "页"),
)  # fmt: skip
WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        language: MappingProxyType({row[0]: row[1 + place] for row in _ROWS})
        for place, language in enumerate(LANGUAGES)
    }
)


def word(language: str, key: str) -> str:
    """Return a heading; the key itself where there is none (a status word, say)."""
    return WORDS[language].get(key, key)
