"""The tests that `make quick` leaves out, as folders and files below tests/.

They start a server or an engine, interpret Triton kernels, train, or take more than a few seconds
for another reason, as measured with `--durations`. tests/architecture checks that every entry
exists.
"""

from __future__ import annotations

from pathlib import PurePosixPath

SLOW = (
    "editors",
    # interpret or compile Triton kernels, some on a simulated GPU
    "fim_kernels/test_kernels_attention.py",
    "fim_kernels/test_kernels_compile_ahead.py",
    "fim_kernels/test_kernels_matmul_8bit.py",
    "fim_kernels/test_kernels_pointwise.py",
    "fim_kernels/test_kernels_scores.py",
    "fim_model/network/test_fused.py",
    "fim_model/test_gpu_path.py",
    # start servers, engines or other processes
    "fim_model/loading/test_hub.py",
    "fim_server/backends/test_remote_backends.py",
    "fim_server/backends/test_transformers_serve.py",
    "fim_server/backends/test_vllm.py",
    "fim_server/bench",
    "fim_server/commands/test_client_config.py",
    "fim_server/commands/test_command_settings.py",
    "fim_server/commands/test_doctor.py",
    "fim_server/commands/test_doctor_servers.py",
    "fim_server/commands/test_edit_commands.py",
    "fim_server/commands/test_eval_gate.py",
    "fim_server/commands/test_instruct_command.py",
    "fim_server/commands/test_terminal.py",
    "fim_server/commands/test_tune_command.py",
    "fim_server/engine",
    "fim_server/lsp",
    "fim_server/test_full_disk.py",
    "fim_training/corpus/test_git_histories.py",
    "fim_training/examples/test_hunk_sequences.py",
    # generate many documents, or decode hundreds of prompts
    "fim_model/decoding/test_denoise.py",
    "fim_model/decoding/test_full_canvas.py",
    "fim_model/decoding/test_healing.py",
    "fim_model/decoding/test_lookup.py",
    "fim_model/decoding/test_modes.py",
    "fim_model/decoding/test_rewrite_drafts.py",
    "fim_model/decoding/test_sampling.py",
    "fim_model/loading/test_gguf_export.py",
    "fim_model/loading/test_gguf_file.py",
    "fim_model/network/test_networks.py",
    "fim_server/documents/test_alignment.py",
    "fim_server/documents/test_documents.py",
    "fim_server/documents/test_lines.py",
    "fim_server/edits/test_interruptible.py",
    "fim_server/edits/test_keystroke_cost.py",
    # train, or run whole evaluations
    "fim_training/evaluation",
    "fim_training/shipping",
    "fim_training/trainer",
    "fim_training/tuning",
)


def is_slow(place: PurePosixPath) -> bool:
    """Whether a test file, given by its path below tests/, is in SLOW or in a folder of SLOW."""
    return any(place.is_relative_to(slow) for slow in SLOW)
