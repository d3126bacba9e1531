//! Checkpoints: C2SP tlog-checkpoint 1.0.0 in a signed note (C2SP signed-note 1.0.0).

use super::merkle::Hash;
use crate::core::digest::Digest;
use crate::core::id::LogOrigin;
use crate::core::limits;
use crate::identity::key::{PublicKey, SigningKey};
use base64::{Engine, engine::general_purpose::STANDARD};

/// The content of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Log.
    pub origin: LogOrigin,
    /// Number of leaves.
    pub size: u64,
    /// Root hash.
    pub root: Hash,
}

/// Why a checkpoint is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note or checkpoint is malformed.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// The log did not sign it.
    #[error("the checkpoint of {0} has no valid signature by a key that the known registers list for that log")]
    Unsigned(LogOrigin),
    /// It belongs to another log.
    #[error("the checkpoint belongs to {found}, not to {expected}")]
    Origin {
        /// Expected log.
        expected: LogOrigin,
        /// Log named in the note.
        found: String,
    },
}

/// Signs checkpoints with the key of the log.
pub trait CheckpointSigner: Send + Sync {
    /// Whether it can sign now.
    fn is_ready(&self) -> bool {
        true
    }

    /// Signs a checkpoint and returns the signed note.
    fn sign(&self, checkpoint: &Checkpoint) -> String;
}

impl CheckpointSigner for SigningKey {
    fn sign(&self, checkpoint: &Checkpoint) -> String {
        checkpoint.sign(self)
    }
}

/// Signature type of Ed25519 in signed notes.
const ED25519: u8 = 0x01;

/// First 4 bytes of SHA-256(name || 0x0A || type || public key).
fn key_id(name: &str, kind: u8, key: &PublicKey) -> [u8; 4] {
    let digest = Digest::of(&[name.as_bytes(), b"\n", &[kind], key.as_bytes()].concat());
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// The verifier key in C2SP's text form, for other tools.
pub fn verifier_key(origin: &LogOrigin, key: &PublicKey) -> String {
    let id = hex::encode(key_id(origin.as_str(), ED25519, key));
    format!("{origin}+{id}+{}", STANDARD.encode([&[ED25519], &key.as_bytes()[..]].concat()))
}

impl Checkpoint {
    /// The signed text.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Signs with the key of the log and returns the signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        Self::sign_text(&self.body(), &self.origin, key)
    }

    /// Signs `body` as the log `origin` and returns the signed note.
    pub fn sign_text(body: &str, origin: &LogOrigin, key: &SigningKey) -> String {
        let id = key_id(origin.as_str(), ED25519, &key.public());
        let signature = STANDARD.encode([&id[..], &key.sign(body.as_bytes())].concat());
        format!("{body}\n\u{2014} {origin} {signature}\n")
    }

    /// Whether a text has the form of a signed note.
    pub fn is_note(text: &str) -> bool {
        text.contains("\n\n\u{2014} ")
    }

    /// Parses a note and verifies that the log signed it with one of `keys`.
    pub fn verify(note: &str, origin: &LogOrigin, keys: &[PublicKey]) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        if note.len() > limits::CHECKPOINT_BYTES_MAX {
            return Err(malformed("too long"));
        }
        let (body, signatures) = note.rsplit_once("\n\n").ok_or(malformed("no blank line before the signatures"))?;
        let checkpoint = Self::parse_body(body, origin)?;
        let signatures = signatures.strip_suffix('\n').ok_or(malformed("no line end after the signatures"))?;
        let mut found = false;
        for (n, line) in signatures.split('\n').enumerate() {
            let rest = line.strip_prefix("\u{2014} ").ok_or(malformed("a signature line begins with a dash"))?;
            let (name, encoded) =
                rest.split_once(' ').ok_or(malformed("a signature line has a name and a signature"))?;
            let bytes = STANDARD.decode(encoded).map_err(|_| malformed("a signature is not base64"))?;
            if n >= limits::NOTE_SIGNATURES_MAX || bytes.len() < 5 {
                return Err(malformed("too many signatures, or one too short"));
            }
            let (id, signature) = bytes.split_at(4);
            let signed = |key: &&PublicKey| key_id(name, ED25519, key) == id;
            if name != origin.as_str() {
                continue;
            }
            if let Some(key) = keys.iter().find(signed) {
                if !key.verify(format!("{body}\n").as_bytes(), signature) {
                    return Err(CheckpointError::Unsigned(origin.clone()));
                }
                found = true;
            }
        }
        if found { Ok(checkpoint) } else { Err(CheckpointError::Unsigned(origin.clone())) }
    }

    fn parse_body(body: &str, origin: &LogOrigin) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let mut lines = body.split('\n');
        let (Some(name), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(malformed("expected origin, size and root, no extension lines"));
        };
        if name != origin.as_str() {
            let found = name.chars().take(100).collect();
            return Err(CheckpointError::Origin { expected: origin.clone(), found });
        }
        let number = size.parse::<u64>().ok().filter(|n| n.to_string() == size);
        let number = number.ok_or(malformed("the size is not a decimal number"))?;
        let bytes = STANDARD.decode(root).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let root = bytes.ok_or(malformed("the root is not 32 bytes of base64"))?;
        Ok(Self { origin: origin.clone(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::ParticipantId;
    use signed_note::{Note, StandardVerifier, VerifierList};
    use zeroize::Zeroizing;

    fn example() -> (Checkpoint, SigningKey) {
        let park = ParticipantId::parse("did:web:park.example").unwrap();
        let key = SigningKey::from_seed(park.key(3), &Zeroizing::new([7; 32]));
        (Checkpoint { origin: park.log_origin(0), size: 20_852_163, root: [5; 32] }, key)
    }

    #[test]
    fn another_implementation_reads_it() {
        let (checkpoint, key) = example();
        let note = checkpoint.sign(&key);
        let parsed = Note::from_bytes(note.as_bytes()).unwrap();
        let verifier = StandardVerifier::new(&verifier_key(&checkpoint.origin, &key.public())).unwrap();
        let (verified, _) = parsed.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        assert_eq!(verified.len(), 1);
        let theirs = tlog_tiles::Checkpoint::from_bytes(parsed.text()).unwrap();
        assert_eq!((theirs.size(), theirs.hash().0), (checkpoint.size, checkpoint.root));
        assert_eq!(theirs.origin(), checkpoint.origin.as_str());
    }

    #[test]
    fn every_altered_byte_is_found() {
        let (checkpoint, key) = example();
        let note = checkpoint.sign(&key);
        let keys = [key.public()];
        assert_eq!(Checkpoint::verify(&note, &checkpoint.origin, &keys).unwrap(), checkpoint);
        for at in 0..note.len() {
            let mut altered = note.clone().into_bytes();
            altered[at] ^= 1;
            let read = String::from_utf8(altered).ok().map(|text| Checkpoint::verify(&text, &checkpoint.origin, &keys));
            assert!(read.is_none_or(|result| result.is_err()), "byte {at}");
            assert!(note.get(..at).is_none_or(|cut| Checkpoint::verify(cut, &checkpoint.origin, &keys).is_err()));
        }
        let other = SigningKey::from_seed(key.id().clone(), &Zeroizing::new([8; 32]));
        assert!(Checkpoint::verify(&note, &checkpoint.origin, &[other.public()]).is_err());
    }
}
