"""The slow test files, longest first: in this order, all processes end at about the same time."""

# Those that train in forks of the test process: torch refuses to if its autograd has threads.
FORKING = (
    "tracking/test_record",
    "stages/train/test_setup",
    "commands/sweep/test_sweep",
    "test_bench",
)

# The first builds what others wait for, while the second needs none of it.
SYSTEM = (
    "system/test_experiments_pipeline",
    "system/test_data_pipeline",
    "system/test_flickr_pipeline",
    "system/test_pipeline",
    "system/test_documented_dvc_commands",
    "system/test_remote_pipeline",
    "system/test_dataset_names",
    "system/test_old_runs",
    "system/test_serving",
    "system/test_review",
)

# Real networks, processes, DVC or MLflow's database: three seconds of a core or more per file.
# `make test-fast` leaves these out too.
SLOW = (
    *FORKING,
    *SYSTEM,
    "commands/ci/test_steps",
    "commands/doctor/test_examination",
    "commands/export/test_command",
    "commands/export/test_onnx",
    "commands/export/test_plain_torch",
    "commands/predict/test_command",
    "commands/reproduce/test_reproduce",
    "commands/suspects/test_suspects",
    "commands/sweep/test_search_space",
    "core/shards/test_growth",
    "core/test_deferred_imports",
    "core/test_portability",
    "core/test_progress",
    "experiments/test_dvc_results",
    "experiments/test_paired_runs",
    "images/test_isolated_pool",
    "images/test_mapping",
    "inference/test_decoder_pool",
    "network/loading/test_sub_batch",
    "network/loading/test_view_loader",
    "network/test_backbones",
    "network/test_cut",
    "network/test_engines",
    "network/test_frozen_prefix",
    "network/test_heads",
    "stages/acquire/sources/test_files",
    "stages/acquire/sources/test_flickr",
    "stages/check/test_checks",
    "stages/evaluate/test_drawing_process",
    "stages/evaluate/test_gradcam",
    "stages/evaluate/test_stage",
    "stages/features/test_compute",
    "stages/filter/test_near_duplicates",
    "stages/filter/test_phash",
    "stages/filter/test_verdicts",
    "stages/test_grown_shards",
    "stages/test_with_and_without_memo",
    "test_docs",
    "test_dvc_plots",
    "test_gpu_bench",
    "test_imports",
    "tracking/test_interruptions",
    "tracking/test_logged_model",
    "tracking/test_recorder",
)
