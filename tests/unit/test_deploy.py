"""deploy/ is true: its manifests, units, crontab, image and configurations are valid, and agree with the prober."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from prober.assembly import _watch, make_target
from prober.channel_choice import resolve_channels
from prober.cli.app import app
from prober.clock import SystemClock
from prober.config import Settings, load_settings
from prober.loops import FIRST_SIGHT
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios
from prober.serve_form import ServeSettings, serve_of
from prober.ticking import AFTER_DEADLINE, SWEEP_WITHIN
from tests.servers.programs import program
from tests.unit.test_readme import check_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (DEPLOY / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = {path.name: [*yaml.safe_load_all(path.read_text(encoding="utf-8"))] for path in DEPLOY.glob("kubernetes/*")}
UNITS = {path.name: path.read_text(encoding="utf-8") for path in (DEPLOY / "systemd").iterdir()}
CRON = (DEPLOY / "cron/prober").read_text(encoding="utf-8")
SECRETS = re.findall(
    r"\$\{file:secrets/([\w-]+)\}",
    re.sub(r"^\s*#.*", "", (DEPLOY / "prober.yaml").read_text(encoding="utf-8"), flags=re.M),
)
PORT = "9464"
CONFIG = "/etc/prober/prober.yaml"
TEXTFILE = Path(re.findall(r"textfile: (\S+)", (DEPLOY / "prober.yaml").read_text(encoding="utf-8"))[0])


def manifest(file: str, kind: str, name: str = "") -> dict[str, Any]:
    (found,) = [one for one in MANIFESTS[file] if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return dict(found)


def pod_of(file: str, kind: str) -> dict[str, Any]:
    """The pod of the file's one Deployment, or of its CronJob."""
    spec = manifest(file, kind)["spec"]
    return dict((spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]["spec"])


PODS = [(file, one["kind"]) for file, found in MANIFESTS.items() for one in found if "containers:" in yaml.dump(one)]
OURS = [each for each in PODS if pod_of(*each)["containers"][0]["image"] == "PROBER_IMAGE"]
TICKS = ["tick.yaml", "tick-postgresql.yaml"]
SCENARIOS = load_scenarios(scenarios_directory(), contents_directory()).values()
LONGEST_PASS = max(scenario.within for scenario in SCENARIOS) + FIRST_SIGHT + AFTER_DEADLINE + SWEEP_WITHIN
"""Seconds that a pass of all the shipped scenarios may linger, with what it does before and after."""


@pytest.fixture
def shipped(tmp_path: Path) -> Settings:
    """The shipped configuration, its secrets in place."""
    (tmp_path / "secrets").mkdir()
    for name in SECRETS:
        (tmp_path / "secrets" / name).write_text(f"a secret of the test, {name}", encoding="utf-8")
    shutil.copy(DEPLOY / "prober.yaml", tmp_path)
    settings = load_settings(tmp_path / "prober.yaml")
    for scenario in SCENARIOS:
        assert resolve_channels(scenario, settings.channels)
    assert settings.ledger == "/var/lib/prober/ledger.sqlite"
    assert f"touch {settings.limits.kill_switch}`" in PAGE
    return settings


@pytest.fixture
def serve(shipped: Settings) -> ServeSettings:
    """What only serving needs of it."""
    return serve_of(shipped.serve)


@pytest.mark.parametrize("short_lived", [False, True])
def test_every_account_is_found_wherever_it_is_started(
    shipped: Settings, monkeypatch: pytest.MonkeyPatch, short_lived: bool
) -> None:
    """Secrets are files beside the configuration, for serve as for tick, whose folder is another one."""
    monkeypatch.chdir("/")
    make_target(shipped, SystemClock())
    for name in shipped.observers:
        assert _watch(shipped, name, SystemClock(), short_lived=short_lived) is not None


@pytest.mark.parametrize("file", MANIFESTS)
def test_every_manifest_is_valid(file: str) -> None:
    """Kubernetes knows every field of every object, and each has its type."""
    assert MANIFESTS[file]
    for one in MANIFESTS[file]:
        kubernetes_validate.validate(one, "1.31", strict=True)


@pytest.mark.parametrize(("file", "kind"), PODS)
def test_a_pod_runs_without_rights(file: str, kind: str) -> None:
    """Each pod is nobody's, on a read-only tree, with the image's user."""
    pod = pod_of(file, kind)
    (container,) = pod["containers"]
    context = {name: value for name, value in pod["securityContext"].items() if name != "fsGroupChangePolicy"}
    assert context == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert "USER 65532:65532" in DOCKERFILE
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"hostNetwork", "hostPID", "hostIPC", "initContainers"}.isdisjoint(pod)
    assert "env" not in container
    limits = container["resources"]["limits"]
    assert set(limits) == {"memory"}, "throttled CPU would widen every interval"


@pytest.mark.parametrize(("file", "kind"), OURS)
def test_a_pod_of_ours_finds_what_it_needs(file: str, kind: str) -> None:
    """It runs a command that there is, finds its secrets by reference where the configuration looks for them, and may
    write only where its ledger lies and to memory."""
    pod = pod_of(file, kind)
    (container,) = pod["containers"]
    check_command(shlex.join(["prober", *container["args"]]))
    in_file = "postgresql" not in file
    mounts = {mount["name"]: (mount["mountPath"], mount.get("readOnly", False)) for mount in container["volumeMounts"]}
    wanted = {"etc": ("/etc/prober", True), "tmp": ("/tmp", False)}  # noqa: S108
    assert mounts == wanted | ({"ledger": ("/var/lib/prober", False)} if in_file else {})
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["tmp"]["emptyDir"]["medium"] == "Memory"
    if in_file:
        claimed = volumes["ledger"]["persistentVolumeClaim"]["claimName"]
        assert claimed == manifest(file, "PersistentVolumeClaim")["metadata"]["name"]
    etc = volumes["etc"]["projected"]
    assert (etc["defaultMode"], [*etc["sources"][0]]) == (0o440, ["configMap"])
    (secret,) = [source["secret"] for source in etc["sources"] if "secret" in source]
    names = [*SECRETS] if in_file else [*SECRETS, "ledger-password"]
    assert sorted(item["path"] for item in secret["items"]) == sorted(f"secrets/{name}" for name in names)
    assert all(item["path"] == f"secrets/{item['key']}" for item in secret["items"])


def test_the_ledger_on_postgresql_is_found(tmp_path: Path, shipped: Settings) -> None:
    """The line that its manifest asks for is read, with the password beside the others."""
    asked = re.search(r"postgresql://\S+@HOST/\w+", (DEPLOY / "kubernetes/tick-postgresql.yaml").read_text("utf-8"))
    assert asked is not None
    (tmp_path / "secrets/ledger-password").write_text("a b", encoding="utf-8")
    text = (tmp_path / "prober.yaml").read_text("utf-8").replace(f"ledger: {shipped.ledger} ", f"ledger: {asked[0]} ")
    (tmp_path / "prober.yaml").write_text(text, encoding="utf-8")
    assert load_settings(tmp_path / "prober.yaml").ledger == "postgresql://prober:a b@HOST/prober"


def test_what_only_reads_a_ledger_is_asked_where_it_answers() -> None:
    """It shows what passes put on PostgreSQL, on the port that is scraped."""
    (container,) = pod_of("tick-postgresql.yaml", "Deployment")["containers"]
    assert container["args"] == ["serve", "--read-only", "--listen", f"0.0.0.0:{PORT}"]
    assert container["ports"] == [{"name": "http", "containerPort": int(PORT)}]
    asked = {probe: container[probe]["httpGet"] for probe in ("readinessProbe", "livenessProbe")}
    assert asked == {"readinessProbe": {"path": "/-/ready", "port": "http"},
                     "livenessProbe": {"path": "/-/healthy", "port": "http"}}  # fmt: skip


def test_what_passes_write_is_shown() -> None:
    """node_exporter reads the folder of the file that the manifest asks for, on the volume that passes write to."""
    text = (DEPLOY / "kubernetes/tick.yaml").read_text(encoding="utf-8")
    written = re.search(r"serve.textfile is (\S+)/prober.prom", text)
    assert written is not None
    (container,) = pod_of("tick.yaml", "Deployment")["containers"]
    assert f"--collector.textfile.directory={written[1]}" in container["args"]
    assert f"--web.listen-address=:{PORT}" in container["args"]
    (mount,) = container["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"]) == (written[1], True)
    (container,) = pod_of("tick.yaml", "CronJob")["containers"]
    (ledger,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == mount["name"]]
    assert f"{ledger}/{mount['subPath']}" == written[1]


def test_serve_is_probed_where_it_answers() -> None:
    """Liveness, readiness and startup ask addresses that serve has, on the port that it listens on."""
    deployment = manifest("serve.yaml", "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    (container,) = pod_of("serve.yaml", "Deployment")["containers"]
    routes = set(re.findall(r'web\.get\("(/-/\w+)"', (ROOT / "prober/status/app.py").read_text(encoding="utf-8")))
    asked = {
        probe: container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe", "startupProbe")
    }
    assert asked == {"livenessProbe": "/-/healthy", "readinessProbe": "/-/ready", "startupProbe": "/-/startup"}
    assert {*asked.values()} <= routes
    assert container["ports"] == [{"name": "http", "containerPort": int(PORT)}]
    assert container["args"] == ["serve", "--listen", f"0.0.0.0:{PORT}"]
    assert f"http://127.0.0.1:{PORT}/-/healthy" in DOCKERFILE
    # Observers may take their time to look for the first time, and one that is blind is scraped all the same.
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 120
    assert manifest("serve.yaml", "Service")["spec"]["publishNotReadyAddresses"]
    assert f'CMD ["serve", "--listen", "0.0.0.0:{PORT}"]' in DOCKERFILE


@pytest.mark.parametrize("file", TICKS)
def test_cron_stays_open_loop_in_kubernetes(file: str) -> None:
    """No pass waits for another, and none is tried again."""
    spec = manifest(file, "CronJob")["spec"]
    job = spec["jobTemplate"]["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"], job["backoffLimit"]) == ("* * * * *", "Allow", 0)
    assert spec["startingDeadlineSeconds"] >= 10, "Kubernetes looks every ten seconds what is to be started"
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["activeDeadlineSeconds"] >= LONGEST_PASS
    if "affinity" not in job["template"]["spec"]:
        assert not [one for one in MANIFESTS[file] if one["kind"] == "PersistentVolumeClaim"]
        return
    wanted = job["template"]["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    holder = manifest("tick.yaml", "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert wanted["labelSelector"]["matchLabels"] == holder


@pytest.mark.parametrize("file", ["serve.yaml", *TICKS])
def test_labels_lead_to_pods(file: str) -> None:
    """A Service, a Deployment and the NetworkPolicy choose pods that there are, by a port that they have."""
    deployment = manifest(file, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    service = manifest(file, "Service")
    assert service["spec"]["selector"] == labels
    policy = manifest("network-policy.yaml", "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress"], "what goes out is everywhere"
    ((source,),) = [rule["from"] for rule in policy["ingress"]]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    assert service["spec"]["clusterIP"] == "None", "each pod is scraped, by DNS"
    (ports,) = [rule["ports"] for rule in policy["ingress"]]
    assert [port["port"] for port in ports] == [port["name"] for port in service["spec"]["ports"]] == ["http"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus/kubernetes.yml").read_text(encoding="utf-8"))["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["type"] == "A"
    assert (found["names"], str(found["port"])) == ([f"{service['metadata']['name']}.prober.svc.cluster.local"], PORT)
    for claim in (v["persistentVolumeClaim"] for v in pod_of(file, "Deployment")["volumes"] if "emptyDir" not in v
                  and "projected" not in v):  # fmt: skip
        volume = manifest(file, "PersistentVolumeClaim")
        assert claim["claimName"] == volume["metadata"]["name"]
        assert volume["spec"]["accessModes"] == ["ReadWriteOnce"], "SQLite's locks want a disk of one node"


def test_who_stops_it_waits_until_it_has_drained(serve: ServeSettings) -> None:
    """Kubernetes, systemd and the page give serve longer than its drain."""
    assert pod_of("serve.yaml", "Deployment")["terminationGracePeriodSeconds"] >= serve.drain + 10
    assert int(setting("prober.service", "TimeoutStopSec")) >= serve.drain + 10
    stop = re.search(r"--stop-timeout (\d+)", PAGE)
    assert stop is not None
    assert int(stop[1]) >= serve.drain + 10
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert setting("prober.service", "KillSignal") == "SIGTERM"


def setting(unit: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", UNITS[unit], re.MULTILINE)
    return str(found)


@pytest.mark.parametrize("file", ["prometheus.yml", "kubernetes.yml"])
def test_prometheus_accepts_the_configuration(file: str) -> None:
    """promtool reads each, with the rules beside it."""
    command = [program("promtool", "prometheus"), "check", "config", str(DEPLOY / "prometheus" / file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "prober.rules.yml" in ended.stdout


def test_the_rules_are_those_of_the_prober(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rule file is what `prober rules` writes now."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PROBER_CONFIG", raising=False)
    written = CliRunner().invoke(app, ["rules"])
    assert written.exit_code == 0
    assert written.output == (DEPLOY / "prometheus/prober.rules.yml").read_text(encoding="utf-8")


def test_the_scrape_meets_the_listener() -> None:
    """Prometheus asks where serve listens unless told otherwise."""
    shipped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    ((told,),) = [one["static_configs"] for one in shipped["alerting"]["alertmanagers"]]
    assert told["targets"] == ["127.0.0.1:9093"], "where Alertmanager listens unless told otherwise"
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in shipped["scrape_configs"]}
    assert targets == {"prober": [f"127.0.0.1:{PORT}"], "node": ["127.0.0.1:9100"]}
    assert f'"127.0.0.1:{PORT}"' in (ROOT / "prober/cli/app.py").read_text(encoding="utf-8") or PORT in helped("serve")
    assert f"EXPOSE {PORT}" in DOCKERFILE


def helped(command: str) -> str:
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output


def test_the_image_copies_what_there_is() -> None:
    """What the Dockerfile copies exists and goes to the builder; one stage makes, the other runs as nobody."""
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {source for line in sources for source in line.split()}
    assert f"PROBER_CONFIG={CONFIG}" in DOCKERFILE
    assert "HOME=/var/lib/prober" in DOCKERFILE
    assert re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE) == ['["prober"]']
    let = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert copied == let
    for source in copied:
        assert (ROOT / source).exists()
    assert DOCKERFILE.index("USER 65532") > DOCKERFILE.rindex("FROM ${BASE}")
    assert not re.search(r"(?i)(secret|token|password)s?[ =]", re.sub(r"#.*", "", DOCKERFILE))
    for line in re.findall(r"^(?:ENTRYPOINT|CMD|  CMD) (\[.+\])$", DOCKERFILE, re.MULTILINE):
        assert isinstance(yaml.safe_load(line), list)  # the form that needs no shell, so that signals arrive
    check_command(shlex.join(["prober", *yaml.safe_load(re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)[0])]))


def test_the_image_holds_pinned_packages() -> None:
    """Each dependency, and what builds, is pinned to a version that the project allows."""
    pins = {}
    for line in (DEPLOY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["postgres"], *project["build-system"]["requires"], "tzdata"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_the_page_names_what_there_is() -> None:
    """Each file, command and secret of the page exists, and there are ten steps."""
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (DEPLOY / link).exists(), link
    for path in re.findall(r"deploy/[\w./@-]*\w", PAGE):
        assert [*ROOT.glob(path + "*")], path
    named = re.findall(r"(?<![\w/])prober ((?:provision|check|run|rules|serve|tick|report)\b[^`\n|&]*)", PAGE)
    assert len(named) >= 6
    for line in named:
        if not re.match(r"run -d|\w+,", line):
            check_command(f"prober {line.replace('…', '')}")
    assert [int(n) for n in re.findall(r"^(\d+)\. \*\*", PAGE, re.MULTILINE)] == [*range(1, 11)]
    assert set(SECRETS) == set(re.findall(r"`([\w-]+)`", re.search(r"^3\. .*", PAGE, re.MULTILINE)[0]))  # type: ignore[index]


def test_nothing_here_is_of_one_machine() -> None:
    """No file holds a secret, an address of a registry or a path of whoever wrote it."""
    for path in (path for path in DEPLOY.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(home|work|root)/|xox[bp]-\w{6}|\.(io|com)/\w+/\w+:\d", text), path
