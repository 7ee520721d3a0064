"""What stands above every benchmark's numbers: versions, device, threads."""

import os
import platform

import torch
import transformers

import polylens


def print_machine(**more: object) -> None:
    """One line with everything about the machine and the libraries that moves a time."""
    facts = {
        "polylens": polylens.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": f"{os.getloadavg()[0]:.1f}",
        **more,
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
