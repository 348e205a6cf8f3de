"""Settings, all from the environment (see .env.example and docs/configuration.md).

Without DATABASE_URL the site uses the embedded servers of `make run`, whose data lie under var/: that is how a fresh
machine works with no configuration, and how `manage.py` by hand reaches the same parts. With DATABASE_URL it is a
production site: nothing secret has a default then.
"""

import ipaddress
import shlex
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import Env, validate

from accounts.masking import add_known_secret
from leaderboard_site.embedded import locations

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()
env.read_env(str(BASE_DIR / ".env"), recurse=False)


# Each may be given as NAME or in the file that NAME_FILE names.
SECRET_NAMES: set[str] = set()


def secret(name: str, default: str | None = None) -> str:
    """The value of NAME, or what the file named by NAME_FILE holds (how container platforms hand out secrets).

    No log shows it (accounts/masking.py).
    """
    SECRET_NAMES.add(name)
    path = env.str(f"{name}_FILE", "")
    value = Path(path).read_text().strip() if path else env.str(name, default)
    if value is None:
        raise ImproperlyConfigured(f"{name} (or {name}_FILE) must be set when DATABASE_URL is set: it has no default.")
    add_known_secret(str(value))
    return str(value)


def networks(name: str, given: list[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(network.strip()) for network in given if network.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}; write networks such as 10.0.0.0/8,192.0.2.7/32.") from error


# --- Where the parts are -------------------------------------------------------------------------------------------
_LOCATIONS = locations.Locations()
VAR_DIR = _LOCATIONS.var
_DATABASE_GIVEN = bool(env.str("DATABASE_URL", "") or env.str("DATABASE_URL_FILE", ""))
# LEADERSBOARD_VAR names an embedded site's folder, also where its parts' addresses are handed over in the environment.
EMBEDDED = not _DATABASE_GIVEN or bool(env.str("LEADERSBOARD_VAR", ""))

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = secret("SECRET_KEY", locations.own_secret(VAR_DIR / "secret_key") if EMBEDDED else None)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
ALLOWED_ORIGINS: list[str] = env.list("ALLOWED_ORIGINS", [])  # other sites whose pages may call the API
SITE_URL = env.str("SITE_URL", "") or _LOCATIONS.site_url()

DATABASES: dict[str, Any] = {"default": _LOCATIONS.database_settings()}
if _DATABASE_GIVEN:
    DATABASES = {"default": dj_database_url.parse(secret("DATABASE_URL"))}
DATABASES["default"].update(
    {
        "CONN_MAX_AGE": env.int("CONN_MAX_AGE", None),  # a connection a request costs 4 ms each time
        "CONN_HEALTH_CHECKS": True,
        # A database that is cut off must become an error that the site can show, not a request that never ends.
        "OPTIONS": {
            **DATABASES["default"].get("OPTIONS", {}),
            "connect_timeout": 5,
            "tcp_user_timeout": 15000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    }
)
# Whether a worker's statements are planned once a connection; not behind a pooler that hands connections around.
PREPARED_STATEMENTS = env.bool("PREPARED_STATEMENTS", True)
# A plan is kept as it was made at its first uses, maybe for an empty table, until the table's statistics change. After so many
# uses of a lane's cursor, or claims of a worker, all its plans are thrown away: by then the table has its size.
PLANS_KEPT_FOR = 100
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = secret("REDIS_URL", "") or _LOCATIONS.redis_url()
_MLFLOW_GIVEN = env.str("MLFLOW_TRACKING_URI", "")
MLFLOW_TRACKING_URI = _MLFLOW_GIVEN or _LOCATIONS.mlflow_url()
# The secret that MLflow's server asks for. The embedded site's own is for the embedded MLflow only.
MLFLOW_TRACKING_USERNAME = env.str("MLFLOW_TRACKING_USERNAME", "") or locations.MLFLOW_USER
_OWN_MLFLOW = EMBEDDED and not _MLFLOW_GIVEN
MLFLOW_TRACKING_PASSWORD = secret(
    "MLFLOW_TRACKING_PASSWORD", locations.own_secret(_LOCATIONS.mlflow_password_file) if _OWN_MLFLOW else ""
)
# How people reach it: through the site and its login, unless it stands elsewhere behind a login of its own.
MLFLOW_PUBLIC_URL = env.str("MLFLOW_PUBLIC_URL", "") or f"{SITE_URL.rstrip('/')}/mlflow"
# For backups: where MLflow keeps its records and files, where this machine can reach them.
MLFLOW_DATABASE_URL = secret(
    "MLFLOW_DATABASE_URL", _LOCATIONS.database_url(locations.MLFLOW_DATABASE_NAME) if EMBEDDED else ""
)
MLFLOW_ARTIFACT_ROOT = env.str("MLFLOW_ARTIFACT_ROOT", str(_LOCATIONS.mlflow / "artifacts") if EMBEDDED else "")
MLFLOW_EXPERIMENT_PREFIX = env.str("MLFLOW_EXPERIMENT_PREFIX", "leaderboard/")

# --- Files ---------------------------------------------------------------------------------------------------------
UPLOAD_ROOT = Path(env.str("UPLOAD_ROOT", str(VAR_DIR / "uploads")))  # submissions
ARTIFACT_ROOT = Path(env.str("ARTIFACT_ROOT", str(VAR_DIR / "artifacts")))  # logs and what runs leave
WORK_ROOT = Path(env.str("WORK_ROOT", str(VAR_DIR / "work")))  # a worker's scratch folders
DATASET_ROOT = Path(env.str("DATASET_ROOT", str(VAR_DIR / "datasets")))
# Hidden labels and organizers' own scorers, on every worker; no run is ever shown the first (jobs/scoring.py).
GROUND_TRUTH_ROOT = Path(env.str("GROUND_TRUTH_ROOT", str(VAR_DIR / "ground_truth")))
SCORER_ROOT = Path(env.str("SCORER_ROOT", str(VAR_DIR / "scorers")))
STORAGE = env.str("STORAGE", "filesystem")  # or "s3"
S3_OPTIONS = {
    "bucket_name": env.str("S3_BUCKET", ""),
    "endpoint_url": env.str("S3_ENDPOINT_URL", "") or None,
    "region_name": env.str("S3_REGION", "") or None,
    "access_key": env.str("S3_ACCESS_KEY", "") or None,
    "secret_key": secret("S3_SECRET_KEY", "") or None,
    "addressing_style": env.str("S3_ADDRESSING_STYLE", "auto"),
    "file_overwrite": True,  # names are made by us and unique; False would be a racy exists() check
    # A browser must not show what a run left. S3's own word for bytes: some servers guess from the name for the usual one.
    "object_parameters": {"ContentType": "binary/octet-stream"},
}
_DURABLE = "submissions.storage.DurableFileSystemStorage"
_S3 = "submissions.object_storage.ObjectStorage"


def _files(location: Path, prefix: str) -> dict[str, Any]:
    if STORAGE == "s3":
        return {"BACKEND": _S3, "OPTIONS": {**S3_OPTIONS, "location": prefix}}
    # The group may read: in production, web process and workers can be different users of one group.
    mode = 0o600 if EMBEDDED else 0o640
    return {"BACKEND": _DURABLE, "OPTIONS": {"location": str(location), "file_permissions_mode": mode}}


# Hashed names need `collectstatic`; tests and runserver serve the files where they lie.
_STATIC_MANIFEST = env.bool("STATIC_MANIFEST", not DEBUG)
STORAGES = {
    "default": _files(ARTIFACT_ROOT, "artifacts"),
    "submissions": _files(UPLOAD_ROOT, "submissions"),
    "artifacts": _files(ARTIFACT_ROOT, "artifacts"),
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if _STATIC_MANIFEST
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not _STATIC_MANIFEST
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", str(VAR_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]

# While this file exists, the site answers 503 with its first line (docs/configuration.md).
MAINTENANCE_FILE = Path(env.str("MAINTENANCE_FILE", str(VAR_DIR / "maintenance")))

# --- Uploads -------------------------------------------------------------------------------------------------------
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", 100 * 1024 * 1024)
UPLOAD_MAX_FILES = env.int("UPLOAD_MAX_FILES", 100)
UPLOAD_EXTENSIONS = (".py", ".yaml", ".yml", ".json", ".txt", ".zip", ".tar.gz")
# Beside the stored files where those are a folder, so that storing an upload is a rename, not a copy.
FILE_UPLOAD_TEMP_DIR = env.str("UPLOAD_TEMP_DIR", str(UPLOAD_ROOT / "incoming"))
Path(FILE_UPLOAD_TEMP_DIR).mkdir(parents=True, exist_ok=True)
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # JSON bodies and form fields
DATA_UPLOAD_MAX_NUMBER_FIELDS = 100
DATA_UPLOAD_MAX_NUMBER_FILES = UPLOAD_MAX_FILES
FILE_UPLOAD_HANDLERS = ["submissions.uploads.HashingUploadHandler"]

# --- Quotas and the life of a job ----------------------------------------------------------------------------------
SUBMISSIONS_PER_HOUR = env.int("SUBMISSIONS_PER_HOUR", 10)
CONCURRENT_JOBS = env.int("CONCURRENT_JOBS", 3)
HEARTBEAT_SECONDS = env.float("HEARTBEAT_SECONDS", 10)
LEASE_SECONDS = env.float("LEASE_SECONDS", 90)
FENCE_SECONDS = env.float("FENCE_SECONDS", 75)  # shorter than the lease: the holder stops before anyone else starts
RECONCILE_SECONDS = env.float("RECONCILE_SECONDS", 10)
SETTLE_SECONDS = env.float("SETTLE_SECONDS", LEASE_SECONDS)  # nobody's lease is judged until we have watched that long
REPUSH_SECONDS = env.float("REPUSH_SECONDS", 60)
RETRY_DELAY_SECONDS = env.float("RETRY_DELAY_SECONDS", 30)
POLL_SECONDS = env.float("POLL_SECONDS", 5)  # a worker looks by itself that often, should every wake-up be lost
INVENTORY_SECONDS = env.float("INVENTORY_SECONDS", 30, validate=validate.Range(min=1))  # a worker looks at what it has
WAITING_VIEW_SECONDS = 1.0  # how long a reading of the queue answers who asks where a job stands
MAX_LOSSES = 3
MAX_RELEASES = 6
RETENTION_DAYS = env.int("RETENTION_DAYS", 90)
QUEUE_TARGET_SECONDS = env.float("QUEUE_TARGET_SECONDS", 600)  # no job should wait longer for its first start
TRACKING_STUCK_SECONDS = env.float("TRACKING_STUCK_SECONDS", 3600)
TRACKING_BACKOFF_SECONDS = env.float("TRACKING_BACKOFF_SECONDS", 300)
TRACKING_TRIES = env.int("TRACKING_TRIES", 5)

GIB = 1024**3
MIB = 1024**2
_CLASS_DEFAULTS: dict[str, Any] = {
    "cpus": 2, "processes": 256, "open_files": 1024, "file_bytes": 512 * MIB, "output_bytes": 256 * MIB,
    "output_inodes": 5000, "tmp_bytes": 256 * MIB, "log_kept_bytes": MIB, "log_kill_bytes": 16 * MIB,
}  # fmt: skip
_SPACE = ("file_bytes", "output_bytes", "tmp_bytes")
RESOURCE_CLASSES: dict[str, dict[str, Any]] = {
    "small": {**_CLASS_DEFAULTS, "wall_seconds": 30 * 60, "memory_bytes": 4 * GIB, **dict.fromkeys(_SPACE, GIB)},
    "medium": {**_CLASS_DEFAULTS, "wall_seconds": 60 * 60, "memory_bytes": 12 * GIB, **dict.fromkeys(_SPACE, 2 * GIB)},
}
for _name, _limits in dict(env.json("RESOURCE_CLASSES", None) or {}).items():
    RESOURCE_CLASSES[_name] = {**RESOURCE_CLASSES.get(_name, RESOURCE_CLASSES["small"]), **_limits}
# Of a scorer, beside its own wall time: a run's have ended by then.
SCORING_LIMITS: dict[str, Any] = {
    **_CLASS_DEFAULTS, "wall_seconds": 10 * 60, "memory_bytes": 4 * GIB, "output_bytes": 16 * MIB, "output_inodes": 100,
    **dict(env.json("SCORING_LIMITS", None) or {}),
}  # fmt: skip
SCORING_DIGITS = env.int("SCORING_DIGITS", 4, validate=validate.Range(min=1, max=15))  # significant ones that are kept

EXECUTOR = env.str("EXECUTOR", "bubblewrap")  # or container, or unsafe-local
CONTAINER_ENGINE = env.str("CONTAINER_ENGINE", "podman")
CONTAINER_ENGINE_OPTIONS = shlex.split(env.str("CONTAINER_ENGINE_OPTIONS", ""))
CONTAINER_IMAGE = env.str("CONTAINER_IMAGE", "localhost/leadersboard-runner:latest")
CONTAINER_PYTHON = env.str("CONTAINER_PYTHON", "python3")
CONTAINER_GPU_OPTION = env.str("CONTAINER_GPU_OPTION", "--device=nvidia.com/gpu={index}")
SCORING_IMAGE = env.str("SCORING_IMAGE", "")  # of scorers with EXECUTOR=container; empty: the leaderboard's
ALLOW_UNSAFE_EXECUTOR = env.bool("ALLOW_UNSAFE_EXECUTOR", False)
SANDBOX_UID = env.int("SANDBOX_UID", 61099)  # what a worker started as root steps down to for a run
GPU_LOCK_ROOT = Path(env.str("GPU_LOCK_ROOT", str(VAR_DIR / "gpus")))  # shared by all workers of a machine
GPU_IDLE_MIB = env.int("GPU_IDLE_MIB", 1024)  # more in use counts as somebody's, though no process is seen
RUNNER_PYTHON = env.str("RUNNER_PYTHON", "") or str(locations.runner_python())

RQ_QUEUES = {
    name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 3600, "SERIALIZER": "rq.serializers.JSONSerializer"}
    for name in RESOURCE_CLASSES
}
RQ = {"WORKER_CLASS": "jobs.worker.WakeUpWorker", "SHOW_ADMIN_LINK": False}
RQ_SHOW_ADMIN_LINK = False

# --- Django --------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "leaderboard_site.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_rq",
    "django_htmx",
    "accounts",
    "leaderboards",
    "submissions",
    "jobs",
    "leaderboard_site",
]
MIDDLEWARE = [
    "leaderboard_site.observing.ObservingMiddleware",
    "leaderboard_site.middleware.SecurityHeadersMiddleware",
    "leaderboard_site.request_limits.RequestLimitsMiddleware",
    "leaderboard_site.storable.StorableAddressMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "leaderboard_site.middleware.CorsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "leaderboard_site.middleware.PageSessionMiddleware",
    "leaderboard_site.middleware.PageLocaleMiddleware",
    "leaderboard_site.middleware.PageTimeZoneMiddleware",
    "leaderboard_site.errors.MaintenanceMiddleware",
    "leaderboard_site.middleware.PageCommonMiddleware",
    "leaderboard_site.errors.BodyMiddleware",
    "leaderboard_site.middleware.PageCsrfMiddleware",
    "leaderboard_site.storable.StorableFormMiddleware",
    "leaderboard_site.middleware.PageAuthenticationMiddleware",
    "leaderboard_site.middleware.PageMessageMiddleware",
    "leaderboard_site.middleware.PageHtmxMiddleware",
    "leaderboard_site.polling.PollMiddleware",
    "leaderboard_site.errors.DependencyDownMiddleware",
]
# The check knows CsrfViewMiddleware by that name alone; PageCsrfMiddleware is it, on every page.
SILENCED_SYSTEM_CHECKS = ["security.W003"]
ROOT_URLCONF = "leaderboard_site.urls"
WSGI_APPLICATION = "leaderboard_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.ThrottledBackend"]
PASSWORD_HASHERS = [
    "accounts.hashing.BoundedArgon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
CSRF_FAILURE_VIEW = "leaderboard_site.errors.csrf_failure"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
TOKEN_DAYS = env.int("TOKEN_DAYS", 90)
# Who may make an account by themselves: nobody, who has an invitation of the operators', everybody.
SIGN_UP = env.str("SIGN_UP", "closed", validate=validate.OneOf(["closed", "invitation", "open"]))
INVITATION_DAYS = env.int("INVITATION_DAYS", 7)

LANGUAGE_CODE = env.str("LANGUAGE_CODE", "en")
LANGUAGES = [("en", "English"), ("ja", "日本語")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("TIME_ZONE", "UTC")
USE_TZ = True
FORMAT_MODULE_PATH = "leaderboard_site.formats"

# Behind TLS unless DEBUG or the embedded default, which serves plain HTTP on the loopback address.
_TLS = env.bool("TLS", not (DEBUG or EMBEDDED))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _TLS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", _TLS)
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 31536000 if _TLS else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _TLS
if env.bool("BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
NUM_PROXIES = env.int("NUM_PROXIES", 0)  # how many addresses of X-Forwarded-For are ours
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["accounts.http.BoundedJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "accounts.http.FirstRendererNegotiation",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is for CORS alone (CorsMiddleware)
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "leaderboard_site.errors.api_exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "NUM_PROXIES": NUM_PROXIES,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LeadersBoard",
    "DESCRIPTION": "Upload code, watch it run, see where it ranks. Every call but login needs `Authorization: Bearer "
    '<token>`. Every error is `{"code": "...", "message": "..."}`.',
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api",
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

# The short way to a job's status and a new job, past the framework (leaderboard_site/lane/). It prepares statements.
LANE = env.bool("LANE", True)
LANE_STATEMENT_SECONDS = env.float("LANE_STATEMENT_SECONDS", 10, validate=validate.Range(min=0.1))

# --- Seen from outside ---------------------------------------------------------------------------------------------
METRICS = env.bool("METRICS", True)
METRICS_TOKEN = secret("METRICS_TOKEN", "")
# Who may read /metrics without the token. On the machine of an embedded site everybody; in production nobody.
METRICS_NETWORKS = networks(
    "METRICS_NETWORKS", env.list("METRICS_NETWORKS", ["127.0.0.0/8", "::1/128"] if EMBEDDED else [])
)
LOG_FORMAT = env.str("LOG_FORMAT", "text", validate=validate.OneOf(["text", "json"]))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "accounts.log_context.AddContext"}},
    "formatters": {
        "text": {
            "()": "accounts.masking.MaskingFormatter",
            "fmt": "{asctime} {levelname} {name} {message}{suffix}",
            "style": "{",
        },
        "json": {"()": "accounts.log_formats.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["context"]}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
    "loggers": {
        # The handlers that Django gives these would write lines without masks.
        "django": {"handlers": [], "level": "INFO"},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},  # the access log has the 400, without a traceback
        "mlflow": {"level": "ERROR"},
    },
}
