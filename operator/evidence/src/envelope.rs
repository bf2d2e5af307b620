//! A signed text: DSSE (<https://github.com/secure-systems-lab/dsse>, protocol 1.0.2) with one Ed25519 signature.
//!
//! `{"payload": BASE64, "payloadType": TYPE, "signatures": [{"keyid": HEX, "sig": BASE64}]}`; what is signed is `DSSEv1`,
//! the type and the payload, each with its length. The key's id is the SHA-256 of its public key as DER.

use base64_simd::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What is signed here.
pub const PAYLOAD_TYPE: &str = "application/vnd.vr-operator.drill+json";
/// What precedes the 32 bytes of an Ed25519 public key in DER (RFC 8410).
const DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What is wrong with a key or an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The key cannot sign.
    #[error("it is no Ed25519 key in PKCS#8")]
    SigningKey,
    /// The system gives no random numbers.
    #[error("no key can be drawn: the system gives no random numbers")]
    Random,
    /// The key cannot verify.
    #[error("it is no Ed25519 public key as PEM (-----BEGIN PUBLIC KEY-----)")]
    PublicKey,
    /// Not such an envelope.
    #[error("it is no DSSE envelope with one signature: {0}")]
    Form(String),
    /// Of something else.
    #[error("it holds {0:?}, not {PAYLOAD_TYPE:?}")]
    Type(String),
    /// Somebody else's.
    #[error("it was signed by key {found}, not by {expected}")]
    OtherKey {
        /// The key it names.
        found: String,
        /// The key that was asked for.
        expected: String,
    },
    /// Changed since.
    #[error("its signature is not that of its text: it was changed since it was signed")]
    Signature,
}

/// What signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new one, and how it is kept.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<(SigningKey, Vec<u8>), EnvelopeError> {
        let kept = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| EnvelopeError::Random)?;
        let key = SigningKey::from_pkcs8(kept.as_ref())?;
        Ok((key, kept.as_ref().to_vec()))
    }

    /// As it was kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pkcs8(kept: &[u8]) -> Result<SigningKey, EnvelopeError> {
        Ed25519KeyPair::from_pkcs8(kept).map(SigningKey).map_err(|_| EnvelopeError::SigningKey)
    }

    /// What verifies.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Signs a text.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&encoded(PAYLOAD_TYPE, payload));
        let envelope = Envelope {
            payload: STANDARD.encode_to_string(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signature {
                keyid: self.public().id(),
                sig: STANDARD.encode_to_string(signature.as_ref()),
            }],
        };
        serde_json::to_vec(&envelope).expect("plain data is always JSON")
    }
}

/// What verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads a PEM.
    ///
    /// # Errors
    /// When it is none of an Ed25519 key.
    pub fn from_pem(text: &str) -> Result<PublicKey, EnvelopeError> {
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let begins = text.trim_start().starts_with("-----BEGIN PUBLIC KEY-----");
        let der = STANDARD.decode_to_vec(body).ok().filter(|_| begins).ok_or(EnvelopeError::PublicKey)?;
        let key = der.strip_prefix(&DER).and_then(|key| key.try_into().ok());
        key.map(PublicKey).ok_or(EnvelopeError::PublicKey)
    }

    /// As PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode_to_string(self.der())
        )
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> String {
        digest(&SHA256, &self.der()).as_ref().iter().fold(String::new(), |mut id, byte| {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        })
    }

    fn der(&self) -> Vec<u8> {
        [&DER[..], &self.0].concat()
    }

    /// The text of an envelope that this key has signed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self, envelope: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let opened = read(envelope)?;
        if opened.key_id != self.id() {
            return Err(EnvelopeError::OtherKey { found: opened.key_id, expected: self.id() });
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(&encoded(PAYLOAD_TYPE, &opened.payload), &opened.signature)
            .map_err(|_| EnvelopeError::Signature)?;
        Ok(opened.payload)
    }
}

/// What an envelope says, whoever has signed it.
pub struct Opened {
    /// The text.
    pub payload: Vec<u8>,
    /// The id of the key that is said to have signed it.
    pub key_id: String,
    signature: Vec<u8>,
}

/// Reads an envelope without asking whether it is genuine.
///
/// # Errors
/// When it is none.
pub fn read(envelope: &[u8]) -> Result<Opened, EnvelopeError> {
    let form = |what: &str| EnvelopeError::Form(what.to_owned());
    let read: Envelope =
        serde_json::from_slice(envelope).map_err(|error| EnvelopeError::Form(error.to_string()))?;
    if read.payload_type != PAYLOAD_TYPE {
        return Err(EnvelopeError::Type(read.payload_type));
    }
    let [signature] = &read.signatures[..] else {
        return Err(form("it has not one signature"));
    };
    let decode = |text: &str| STANDARD.decode_to_vec(text).map_err(|_| form("it is not in base64"));
    Ok(Opened {
        payload: decode(&read.payload)?,
        key_id: signature.keyid.clone(),
        signature: decode(&signature.sig)?,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding.
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_read_again() {
        let (key, kept) = SigningKey::generate().expect("a key");
        let envelope = SigningKey::from_pkcs8(&kept).expect("as it was kept").sign(b"a text");
        let public = PublicKey::from_pem(&key.public().pem()).expect("its own PEM");
        assert_eq!(public, key.public());
        assert_eq!(public.open(&envelope).expect("it is genuine"), b"a text");
    }

    /// The example of the specification (protocol.md, "Test Vectors").
    #[test]
    fn what_is_signed_is_encoded_as_the_specification_has_it() {
        let encoded = encoded("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let (key, _) = SigningKey::generate().expect("a key");
        let whole: serde_json::Value = serde_json::from_slice(&key.sign(b"a text")).expect("it is JSON");
        let changed = |pointer: &str, value: &str| {
            let mut envelope = whole.clone();
            *envelope.pointer_mut(pointer).expect("it is there") = value.into();
            key.public().open(envelope.to_string().as_bytes()).expect_err(pointer).to_string()
        };
        assert!(changed("/payload", &STANDARD.encode_to_string(b"another")).contains("changed since"));
        assert!(changed("/payload", "?").contains("base64"));
        assert!(changed("/payloadType", "text/plain").contains("\"text/plain\""));
        assert!(changed("/signatures/0/keyid", "00").contains("signed by key 00"));
        assert!(changed("/signatures/0/sig", &STANDARD.encode_to_string([0; 64])).contains("changed since"));
        assert!(key.public().open(b"{}").expect_err("no envelope").to_string().contains("no DSSE envelope"));
        let (other, _) = SigningKey::generate().expect("a key");
        let error = other.public().open(whole.to_string().as_bytes()).expect_err("another key");
        assert!(error.to_string().contains(&format!("not by {}", other.public().id())));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(SigningKey::from_pkcs8(b"no key").is_err());
        for text in ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(PublicKey::from_pem(text).is_err(), "{text}");
        }
    }
}
