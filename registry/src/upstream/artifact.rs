//! Kinds of artifacts that registries keep beside images, by the types that tell them apart.

/// What the artifacts are called whose configuration, artifact type or layers have a type that begins like this. Types of
/// one kind differ in their ends: in version, in compression, in what of the artifact they are.
const KINDS: [(&str, &str); 43] = [
    ("application/vnd.cncf.helm.", "a Helm chart"),
    ("application/vnd.dev.cosign.simplesigning.", "a cosign signature"),
    ("application/vnd.dev.cosign.artifact.sig.", "a cosign signature"),
    ("application/vnd.dev.cosign.artifact.att.", "a cosign attestation"),
    ("application/vnd.dev.cosign.artifact.sbom.", "an SBOM (cosign)"),
    ("application/vnd.dev.sigstore.bundle", "a Sigstore bundle"),
    ("application/vnd.dsse.envelope.", "an attestation (DSSE)"),
    ("application/vnd.in-toto", "an attestation (in-toto)"),
    ("application/vnd.docker.attestation.", "a build attestation"),
    ("application/vnd.cncf.notary.", "a Notation signature"),
    ("text/spdx", "an SBOM (SPDX)"),
    ("application/spdx", "an SBOM (SPDX)"),
    ("application/vnd.spdx", "an SBOM (SPDX)"),
    ("application/vnd.cyclonedx", "an SBOM (CycloneDX)"),
    ("application/vnd.syft", "an SBOM (Syft)"),
    ("application/sarif+json", "a scan report (SARIF)"),
    ("application/vnd.aquasec.trivy.", "a Trivy database"),
    ("application/vnd.cncf.flux.", "a Flux artifact"),
    ("application/vnd.timoni.", "a Timoni module"),
    ("application/vnd.cue.module", "a CUE module"),
    ("application/vnd.ms.bicep.", "a Bicep module"),
    ("application/vnd.opentofu.", "an OpenTofu package"),
    ("application/wasm", "a WebAssembly module"),
    ("application/vnd.wasm.", "a WebAssembly module"),
    ("application/vnd.module.wasm.", "a WebAssembly module"),
    ("application/vnd.bytecodealliance.", "a WebAssembly component"),
    ("application/vnd.fermyon.spin.", "a Spin application"),
    ("application/vnd.cncf.openpolicyagent.", "an Open Policy Agent bundle"),
    ("application/vnd.cncf.kyverno.", "a Kyverno policy"),
    ("application/vnd.dev.kubewarden.", "a Kubewarden policy"),
    ("application/vnd.cncf.falco.", "a Falco artifact"),
    ("application/vnd.cncf.artifacthub.", "Artifact Hub metadata"),
    ("application/vnd.cncf.model.", "an AI model"),
    ("application/vnd.docker.ai.", "an AI model"),
    ("application/vnd.ollama.", "an AI model"),
    ("application/vnd.docker.plugin.", "a Docker plugin"),
    ("application/vnd.docker.compose.", "a Docker Compose project"),
    ("application/vnd.docker.cache.", "a build cache"),
    ("application/vnd.buildkit.cacheconfig.", "a build cache"),
    ("application/vnd.devcontainers", "a development container feature"),
    ("application/vnd.sylabs.sif.", "a Singularity image"),
    ("application/vnd.gitea.", "a Gitea package"),
    ("application/vnd.oci.artifact.manifest.", "an OCI artifact manifest"),
];

/// The types that tools write who are not told one.
const TYPES_OF_ANYTHING: [&str; 2] = ["application/vnd.oci.empty.", "application/vnd.unknown."];

/// Whether a media type tells what an artifact is.
pub(super) fn is_telling(media_type: &str) -> bool {
    let is_of_anything = TYPES_OF_ANYTHING.iter().any(|beginning| media_type.starts_with(beginning));
    !media_type.is_empty() && !is_of_anything
}

/// An artifact with the media type that tells what it is: in words where they are known, and the type.
pub(super) fn described(media_type: &str) -> String {
    match kind(media_type) {
        Some(kind) => format!("{kind} ({media_type})"),
        None if is_telling(media_type) => media_type.to_owned(),
        None => "an artifact of no stated type".to_owned(),
    }
}

/// What an artifact of this media type is called in words.
fn kind(media_type: &str) -> Option<&'static str> {
    let is_of_kind = |(beginning, _): &&(&str, _)| media_type.starts_with(beginning);
    KINDS.iter().find(is_of_kind).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::media_type;

    #[test]
    fn well_known_artifacts_by_the_types_that_their_tools_write() {
        for (media_type, expected) in [
            ("application/vnd.cncf.helm.config.v1+json", "a Helm chart"),
            ("application/vnd.dev.cosign.simplesigning.v1+json", "a cosign signature"),
            ("application/vnd.dsse.envelope.v1+json", "an attestation (DSSE)"),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", "a Sigstore bundle"),
            ("application/vnd.in-toto+json", "an attestation (in-toto)"),
            ("application/vnd.cncf.notary.signature", "a Notation signature"),
            ("text/spdx+json", "an SBOM (SPDX)"),
            ("application/spdx+json", "an SBOM (SPDX)"),
            ("application/vnd.cyclonedx+json", "an SBOM (CycloneDX)"),
            ("application/vnd.cncf.flux.config.v1+json", "a Flux artifact"),
            ("application/vnd.wasm.config.v0+json", "a WebAssembly module"),
            ("application/vnd.cncf.openpolicyagent.config.v1+json", "an Open Policy Agent bundle"),
        ] {
            assert_eq!(described(media_type), format!("{expected} ({media_type})"));
        }
    }

    #[test]
    fn other_artifacts_are_called_by_their_type_if_they_have_one() {
        assert_eq!(
            described("application/vnd.example.thing.v1+json"),
            "application/vnd.example.thing.v1+json"
        );
        for of_anything in ["application/vnd.oci.empty.v1+json", "application/vnd.unknown.config.v1+json", ""]
        {
            assert_eq!(described(of_anything), "an artifact of no stated type");
        }
    }

    #[test]
    fn the_types_of_images_are_of_no_kind_of_artifact() {
        for media_type in [
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::OCI_CONFIG,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_CONFIG,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.example.thing.v1+json",
            "",
        ] {
            assert_eq!(kind(media_type), None, "{media_type}");
        }
    }
}
