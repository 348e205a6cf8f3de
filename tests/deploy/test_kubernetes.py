"""The manifests for Kubernetes: built by kustomize, held against the schemas, and against each other."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from docs.test_docs import settings_read

from .conftest import ROOT

KINDS = ["cpu", "nvidia-l4", "nvidia-h100"]
SECRETS = re.findall(r"^\s*(?:keep|ask) ([a-z_0-9]+)", (ROOT / "deploy" / "make-secrets").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def site(tool, tmp_path_factory) -> list[dict[str, Any]]:
    """Everything of the example, with one more kind of worker."""
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(ROOT / "deploy" / "kubernetes", folder)
    for name in SECRETS:
        (folder / "example" / "secrets" / name).write_text("for the test")
    main = folder / "example" / "kustomization.yaml"
    main.write_text(
        main.read_text().replace("../workers/nvidia-l4,", "".join(f"../workers/{kind}, " for kind in KINDS))
    )
    done = tool("kubectl", "kustomize", str(folder / "example"))
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "built.yaml").write_text(done.stdout)
    checked = tool("kubernetes-validate", "--strict", "--kubernetes-version", "1.37", str(folder / "built.yaml"))
    told = checked.stdout + checked.stderr
    assert checked.returncode == 0, told
    # The schemas know no kinds of others; those are looked at below.
    unknown = {line.split("kind ")[1].split()[0] for line in told.splitlines() if "find schema" in line}
    assert unknown == {"ScaledObject", "TriggerAuthentication"}
    return list(yaml.safe_load_all(done.stdout))


def of(site: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in site if one["kind"] in kinds}


def pods(site: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, one in of(site, "Deployment", "StatefulSet", "Job").items():
        yield name, one["spec"]["template"]["spec"]


def workers(site: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: spec for name, spec in pods(site) if name.startswith("worker")}


def test_one_deployment_a_kind_of_gpu(site):
    assert set(workers(site)) == {f"worker-{kind}" for kind in KINDS}
    limits = {
        name: spec["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for name, spec in workers(site).items()
    }
    assert limits == {"worker-cpu": None, "worker-nvidia-l4": "1", "worker-nvidia-h100": "1"}
    for name, spec in workers(site).items():
        assert ("nodeSelector" in spec) == ("nvidia" in name)
        assert ("--gpu" in spec["containers"][0]["args"]) == ("nvidia" in name)


def test_every_pod_is_tight(site):
    for name, spec in pods(site):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert "procMount" not in context or name in workers(site), name


def test_worker_pods_have_what_the_sandbox_needs(site):
    for spec in workers(site).values():
        context = spec["containers"][0]["securityContext"]
        # Together, or root in an unmasked container would be root of the node.
        assert (context["procMount"], spec["hostUsers"]) == ("Unmasked", False)
        assert context["seccompProfile"] == {"type": "Localhost", "localhostProfile": "leadersboard/bubblewrap.json"}
        assert context["appArmorProfile"] == {"type": "Unconfined"}


def test_worker_pods_may_finish_their_job(site, settings):
    longest = max(limits["wall_seconds"] for limits in settings.RESOURCE_CLASSES.values())
    for spec in workers(site).values():
        assert spec["terminationGracePeriodSeconds"] >= longest + 900


def test_what_scales_names_what_is_there(site):
    deployments = of(site, "Deployment")
    authentications = of(site, "TriggerAuthentication")
    secrets = of(site, "Secret")
    scaled = {one["spec"]["scaleTargetRef"]["name"]: one for one in of(site, "ScaledObject").values()}
    assert set(scaled) == set(workers(site))
    for name, one in scaled.items():
        assert "replicas" not in deployments[name]["spec"]
        [trigger] = one["spec"]["triggers"]
        [secret] = authentications[trigger["authenticationRef"]["name"]]["spec"]["secretTargetRef"]
        assert secret["key"] in secrets[secret["name"]]["data"]
        served = set(re.findall(r"'(\w+)'", trigger["metadata"]["query"].partition("resource_class")[2]))
        told = deployments[name]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert served == (set(told[told.index("--classes") + 1 :]) if "--classes" in told else {"small", "medium"})


@pytest.mark.django_db
def test_the_queue_is_asked_for_by_a_query_that_the_database_knows(site):
    from django.db import connection

    for one in of(site, "ScaledObject").values():
        with connection.cursor() as cursor:
            cursor.execute(one["spec"]["triggers"][0]["metadata"]["query"])
            assert cursor.fetchone() == (0,)


def test_every_volume_secret_and_setting_that_a_pod_names_is_there(site):
    claims, maps, secrets = of(site, "PersistentVolumeClaim"), of(site, "ConfigMap"), of(site, "Secret")
    known = (
        settings_read() | {f"{name}_FILE" for name in settings_read()} | {"PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY"}
    )
    for name, spec in pods(site):
        keys: set[str] = set()
        for volume in spec["volumes"]:
            if "secret" in volume:
                keys |= set(secrets[volume["secret"]["secretName"]]["data"])
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
        for container in spec["containers"]:
            given = {one["name"]: one["value"] for one in container.get("env", [])}
            for source in container.get("envFrom", []):
                given |= maps[source["configMapRef"]["name"]]["data"]
            files = {value.rpartition("/")[2] for key, value in given.items() if key.endswith("_FILE")}
            assert files - {"maintenance"} <= keys, name
            if "leadersboard-web" in container["image"] or "leadersboard-worker" in container["image"]:
                assert set(given) - known == set(), name


def test_services_and_policies_choose_pods_that_exist(site):
    labels = [
        one["spec"]["template"]["metadata"]["labels"] for one in of(site, "Deployment", "StatefulSet", "Job").values()
    ]
    chosen = [one["spec"]["selector"] for one in of(site, "Service").values()]
    chosen += [one["spec"]["selector"]["matchLabels"] for one in of(site, "PodDisruptionBudget").values()]
    for policy in of(site, "NetworkPolicy").values():
        chosen.append(policy["spec"]["podSelector"].get("matchLabels", {}))
    for selector in chosen:
        assert any(selector.items() <= one.items() for one in labels), selector


def test_mlflow_is_for_the_site_and_the_reconcilers_alone(site):
    [rule] = of(site, "NetworkPolicy")["mlflow"]["spec"]["ingress"]
    assert [one["podSelector"]["matchLabels"]["app"] for one in rule["from"]] == ["web", "reconciler"]
    assert of(site, "NetworkPolicy")["nothing-comes-in"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    backends = [rule["http"]["paths"] for one in of(site, "Ingress").values() for rule in one["spec"]["rules"]]
    assert [path["backend"]["service"]["name"] for paths in backends for path in paths] == ["web"]


def test_images_of_others_are_those_of_the_compose_file(site):
    compose = (ROOT / "docker-compose.yml").read_text()
    images = {container["image"] for _, spec in pods(site) for container in spec["containers"]}
    for image in images:
        if "leadersboard" not in image:
            assert image in compose
