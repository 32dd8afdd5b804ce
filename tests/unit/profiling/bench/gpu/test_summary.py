from profiling.bench.gpu import suite, summary
from profiling.bench.gpu.stages import Subject
from protos import manifest

SUBJECT = Subject(manifest=manifest.collect("NVIDIA H200"), is_tiny=False, dtype="float16")
CALLS = [
    {"batch_size": 1, "call_s": [0.010, 0.012, 0.020], "peak_bytes": 2 * 10**9},
    {"batch_size": 2, "call_s": [0.016], "peak_bytes": 3 * 10**9},
    {"batch_size": 4, "out_of_memory": "CUDA out of memory"},
]
STEPS = {
    "model_id": "sdxl",
    "calls": CALLS,
    "steps": [{"batch_size": 1, "step_s": [0.013]}],
    "energy": [
        {"in_flight": 1, "energy_j": 600.0, "taken_s": 2.0, "num_images": 4},
        {"in_flight": 2, "energy_j": None, "taken_s": 2.0, "num_images": 4},
    ],
}


def test_steps_and_energy_are_told_by_batch_size_until_memory_ends():
    text = summary.text(SUBJECT, {"sdxl-steps": STEPS}, {})

    first = "| sdxl | 1 | 12.00 (10.00 to 20.00) | 13.00 (13.00 to 13.00) | 13.00 | 2000 |"
    assert first in text
    assert "| sdxl | 2 | 16.00 (16.00 to 16.00) | out of memory |  | 3000 |" in text
    assert "| sdxl | 4 | out of memory |" in text
    assert "| sdxl | 1 | 2.00 | 150.0 |" in text
    assert "| sdxl | 2 | 2.00 | not told |" in text


def test_weights_are_labelled_and_so_is_what_is_missing():
    missing = {"sd3-loads": "no time: it takes about 65 s, 12 s left"}

    text = summary.text(SUBJECT, {"sd3-steps": {"out_of_memory": "no memory left"}}, missing)

    assert text.startswith("# Models of published size with random weights on NVIDIA H200\n")
    assert "- sd3-loads: not measured, no time: it takes about 65 s, 12 s left" in text
    assert "- sd3-steps: no memory left" in text
    assert "Tiny models show" not in text


def test_pytest_is_quoted_by_its_counts():
    lines = ["...", "==== 1 failed, 4 passed, 2 skipped, 2 errors in 12.30s ===="]
    counts = suite.counts(lines)
    record = {"exit_code": 1, "is_over": True, "counts": counts, "last_lines": lines}

    assert counts == {"failed": 1, "passed": 4, "skipped": 2, "errors": 2}
    text = summary.text(SUBJECT, {"tests": record}, {})
    assert "1 failed, 4 passed, 2 skipped, 2 errors (exit code 1)" in text
