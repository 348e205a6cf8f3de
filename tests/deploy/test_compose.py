"""The compose files: what docker compose makes of them, and the promises that they keep together."""

import json
import re

import pytest
from docs.test_docs import settings_read

from .conftest import LAYERS, ROOT

OURS = {"web", "migrate", "reconciler", "manage", "worker", "mlflow"}
IMAGES_OF_OTHERS = {"proxy", "postgres", "redis"}
# Read by a service's own program and not by the site's settings.
NOT_SETTINGS = {
    "SITE_ADDRESS", "WEB_ADDRESS", "PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY", "MLFLOW_WORKERS", "POSTGRES_INITDB_ARGS",
    "POSTGRES_PASSWORD_FILE",
}  # fmt: skip


def text_of(file: str) -> str:
    return (ROOT / file).read_text()


def variables() -> set[str]:
    """The names that the compose files take from .env or the shell."""
    files = {file for layers in LAYERS.values() for file in layers}
    return {name for file in files for name in re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text_of(file))}


@pytest.mark.parametrize("layers", LAYERS)
def test_every_set_of_files_is_valid(composed, layers):
    assert composed(layers)["services"]["worker"]["image"]


def test_production_has_the_parts_and_no_other(composed):
    assert set(composed("production")["services"]) == OURS | IMAGES_OF_OTHERS


def test_only_the_proxy_is_public(composed):
    ports = {
        (name, port.get("host_ip", "0.0.0.0"), port["published"])
        for name, service in composed("production")["services"].items()
        for port in service.get("ports", [])
    }
    assert ports == {
        ("proxy", "0.0.0.0", "80"), ("proxy", "0.0.0.0", "443"), ("web", "127.0.0.1", "8010"),
    }  # fmt: skip


def test_development_opens_the_parts_to_this_machine_alone(composed):
    ports = {
        (name, port["host_ip"], port["published"])
        for name, service in composed("development")["services"].items()
        for port in service.get("ports", [])
        if name != "proxy"
    }
    assert ports == {
        ("web", "127.0.0.1", "8010"), ("mlflow", "127.0.0.1", "5010"), ("redis", "127.0.0.1", "6379"),
        ("postgres", "127.0.0.1", "5432"),
    }  # fmt: skip


def test_databases_are_opened_at_the_address_that_is_named_and_at_no_other(composed):
    services = composed("reachable")["services"]
    opened = {
        (port["host_ip"], port["published"]) for name in ("postgres", "redis") for port in services[name]["ports"]
    }
    assert opened == {("192.0.2.1", "5432"), ("192.0.2.1", "6379")}
    assert "ports" not in services["mlflow"]


def test_databases_mlflow_and_workers_reach_nothing_outside(composed):
    found = composed("production")
    assert found["networks"]["inside"]["internal"] is True
    inside = {name for name, service in found["services"].items() if set(service["networks"]) == {"inside"}}
    assert inside == {"migrate", "reconciler", "manage", "worker", "mlflow", "postgres", "redis"}


@pytest.mark.parametrize("layers", ["production", "cpu", "gpus", "s3", "worker-host"])
def test_nobody_is_root_or_gains_anything(composed, layers):
    for name, service in composed(layers)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service.get("privileged", False) is False, name
        # The proxy's volumes are root's; without capabilities but for low ports.
        assert service["user"].split(":")[0] == {"proxy": "0", "postgres": "999", "redis": "999"}.get(
            name, "10001"
        ) or (name.startswith("worker") and service["user"] == "10001:10001"), name
    assert composed(layers)["services"]["proxy"]["cap_add"] == ["NET_BIND_SERVICE"]


def test_only_the_worker_may_make_namespaces(composed):
    loose = {
        name
        for name, service in composed("production")["services"].items()
        if any(option.startswith(("seccomp", "systempaths", "apparmor")) for option in service["security_opt"])
    }
    assert loose == {"worker"}
    options = composed("production")["services"]["worker"]["security_opt"]
    assert [one for one in options if one.startswith("seccomp")] == ["seccomp=./deploy/seccomp/bubblewrap.json"]
    assert "systempaths=unconfined" in options


def test_worker_has_one_gpu_and_cpu_layer_takes_it_away(composed):
    worker = composed("production")["services"]["worker"]
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["device_ids"], device["capabilities"]) == ("nvidia", ["0"], ["gpu"])
    assert worker["command"][-2:] == ["--gpu", "0"]
    without = composed("cpu")["services"]["worker"]
    assert without["deploy"]["resources"].get("reservations") is None
    assert "--gpu" not in without["command"]
    assert without["build"]["args"]["RUNNER"] == "worker-cpu"


def test_each_worker_of_a_machine_has_a_card_and_a_name_of_its_own(composed):
    workers = {name: service for name, service in composed("gpus")["services"].items() if name.startswith("worker")}
    cards = [one["deploy"]["resources"]["reservations"]["devices"] for one in workers.values()]
    assert sorted(devices[0]["device_ids"][0] for devices in cards) == [str(number) for number in range(8)]
    assert all(len(devices) == 1 for devices in cards)
    assert len({one["hostname"] for one in workers.values()}) == 8
    # Else their janitors would clear each other's runs away; the locks are what they share.
    for one in workers.values():
        mounts = {volume["target"]: volume.get("source") for volume in one["volumes"]}
        assert mounts["/data/work"] is None
        assert mounts["/data/gpus"] == "gpu-locks"


def test_a_further_machine_runs_its_worker_and_nothing_else(composed):
    started = composed("worker-host", "none")["services"]
    assert set(started) == {"worker"}
    assert set(started["worker"]["networks"]) == {"outside"}
    assert started["worker"]["environment"]["STORAGE"] == "s3"
    assert not started["worker"].get("depends_on")


def test_stopping_a_worker_gives_it_the_longest_class_and_some(composed, settings):
    longest = max(limits["wall_seconds"] for limits in settings.RESOURCE_CLASSES.values())
    told = composed("production")["services"]["worker"]["stop_grace_period"]
    hours, minutes, seconds = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", told).groups()
    assert int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) >= longest + 900


def test_every_long_lived_service_has_a_health_check(composed):
    dockerfile = text_of("docker/Dockerfile")
    for name, service in composed("production")["services"].items():
        if name in ("migrate", "manage"):
            assert service["healthcheck"] == {"disable": True}
        elif "healthcheck" not in service:
            target = service["build"]["target"]
            assert re.search(rf'HEALTHCHECK [^\n]*"docker/health.py", "{target}"\]', dockerfile), name


def test_what_is_waited_for_can_be_waited_for(composed):
    services = composed("production")["services"]
    for name, service in services.items():
        for other, how in (service.get("depends_on") or {}).items():
            if how["condition"] == "service_completed_successfully":
                assert services[other]["restart"] == "no", (name, other)
            else:
                assert how["condition"] == "service_healthy", (name, other)


def test_no_secret_is_in_the_environment_and_each_is_made(composed):
    found = composed("s3")
    made = set(re.findall(r"^\s*(?:keep|ask) ([a-z_0-9]+)", text_of("deploy/make-secrets"), re.MULTILINE))
    assert set(found["secrets"]) == made
    for name, service in found["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|DATABASE_URL|REDIS_URL", key):
                assert key.endswith("_FILE"), (name, key)
                given = {secret["target"] for secret in service["secrets"]}
                assert value in given, (name, key)


def test_a_worker_signs_with_a_key_of_its_own(composed):
    secrets = {one["target"]: one["source"] for one in composed("production")["services"]["worker"]["secrets"]}
    assert secrets["/run/secrets/secret_key"] == "worker_secret_key"
    assert "metrics_token" not in secrets.values()


def test_environment_names_are_settings(composed):
    known = settings_read() | {f"{name}_FILE" for name in settings_read()}
    for layers in LAYERS:
        for name, service in composed(layers)["services"].items():
            names = set(service.get("environment") or {}) - NOT_SETTINGS
            assert names - known == set(), (layers, name)


def test_env_production_names_only_what_is_read():
    told = set(re.findall(r"^#?([A-Z_]+)=", text_of("deploy/compose/env.production"), re.MULTILINE))
    assert told - settings_read() - variables() - {"COMPOSE_FILE"} == set()
    assert {"SITE_ADDRESS", "SITE_URL", "ALLOWED_HOSTS"} <= told


def test_configuration_page_has_every_variable_of_the_compose_files():
    page = text_of("docs/configuration.md").partition("## Of docker compose alone")[2]
    told = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", page.partition("\n## ")[0]))
    assert variables() - settings_read() - told == set()


def test_images_of_others_have_a_version(composed):
    for name in IMAGES_OF_OTHERS:
        tag = composed("production")["services"][name]["image"].partition(":")[2]
        assert re.match(r"\d+\.\d+", tag), name


def test_devcontainer_names_what_is_in_the_compose_files(composed):
    text = re.sub(r"^//.*$", "", text_of(".devcontainer/devcontainer.json"), flags=re.MULTILINE)
    told = json.loads(text)
    assert [(ROOT / ".devcontainer" / file).resolve() for file in told["dockerComposeFile"]] == [
        ROOT / file for file in LAYERS["development"]
    ]
    services = composed("development")["services"]
    assert {told["service"], *told["runServices"]} <= set(services)
    web = services[told["service"]]
    assert web["build"]["target"] == "dev"
    assert told["workspaceFolder"] in {volume["target"] for volume in web["volumes"]}
