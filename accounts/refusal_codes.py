"""The codes of refusals, by HTTP status. docs/errors.md explains each of them, and tests compare both with the code."""

# Refusals of API calls.
API_CODES: dict[int, tuple[str, ...]] = {
    400: (
        "bad_archive", "bad_as_of", "bad_column", "bad_config", "bad_config_file", "bad_cursor", "bad_entrypoint",
        "bad_extension", "bad_file_name", "bad_idempotency_key", "bad_limit", "bad_metadata", "bad_metric", "bad_name",
        "bad_offset", "bad_paths", "bad_range", "bad_resource_class", "bad_search", "bad_status", "invalid",
        "missing_config_file", "missing_entrypoint", "no_files", "too_many_fields", "too_many_files", "truncated",
        "unknown_parameter",
    ),
    401: ("not_authenticated",),
    403: ("banned", "forbidden", "operators_job"),
    404: ("not_found",),
    405: ("method_not_allowed",),
    406: ("not_acceptable",),
    409: (
        "already_final", "already_withdrawn", "disqualified", "idempotency_conflict", "is_trial", "job_active",
        "leaderboard_closed", "leaderboard_paused", "not_completed", "not_final", "not_withdrawn", "too_many_withdrawals",
    ),
    410: ("deleted",),
    411: ("length_required",),
    413: ("too_large",),
    415: ("unsupported_media_type",),
    429: ("hourly_limit", "too_many_jobs", "too_many_logins"),
    431: ("bad_header",),
    500: ("internal",),
    503: ("storage_unavailable", "unavailable"),
}  # fmt: skip

# Refusals of pages alone, the console's included.
PAGE_CODES: dict[int, tuple[str, ...]] = {
    400: (
        "bad_invitation", "bad_declaration", "bad_leaderboard_file", "bad_username", "contradicting_direction",
        "missing_reason", "nothing_chosen", "scorer_version_gone", "sign_up_closed", "taken_username", "too_many_chosen",
        "unknown_action", "unknown_kind", "unknown_metric",
    ),
    409: (
        "above_you", "already_begun", "already_disabled", "already_disqualified", "already_paused", "already_published",
        "already_stopped", "gone", "has_submissions", "leaderboard_exists", "not_announced", "not_disabled",
        "not_disqualified", "not_paused", "not_published", "not_scored", "own_account", "same_score_version",
        "sign_up_closed", "still_storing", "too_many_baselines",
    ),
    429: ("too_many_mlflow_requests", "too_many_sign_ups"),
    503: ("mlflow_away", "mlflow_busy"),
}  # fmt: skip
