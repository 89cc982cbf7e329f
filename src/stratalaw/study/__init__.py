"""What is asked, and what it is called: a study, its models, variants and benchmarks."""

from stratalaw.study.definition import (
    COMPOSITES,
    Benchmark,
    Calibration,
    Checkpoint,
    Evaluation,
    Gptq,
    Grid,
    Model,
    Name,
    Section,
    Study,
    StudyError,
    Task,
    Tasks,
    describe,
    read_study,
)

__all__ = [
    "COMPOSITES",
    "Benchmark",
    "Calibration",
    "Checkpoint",
    "Evaluation",
    "Gptq",
    "Grid",
    "Model",
    "Name",
    "Section",
    "Study",
    "StudyError",
    "Task",
    "Tasks",
    "describe",
    "read_study",
]
