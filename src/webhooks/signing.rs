//! The signature of a message.

use secrecy::{ExposeSecret as _, SecretString};

/// The signatures of a message with each secret, as `webhook-signature` has them; `None` where a secret cannot be
/// used, which the configuration does not let through.
pub(super) fn sign(secrets: &[SecretString], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let sign_with = |secret: &SecretString| {
        standardwebhooks::Webhook::new(secret.expose_secret()).ok()?.sign(id, timestamp, body).ok()
    };
    let signatures: Option<Vec<String>> = secrets.iter().map(sign_with).collect();
    signatures.filter(|signatures| !signatures.is_empty()).map(|signatures| signatures.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    #[test]
    fn the_example_of_the_specification_has_its_signature() {
        let signature = sign(&[SECRET.into()], ID, 1_614_265_330, BODY);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn each_secret_gives_a_signature_so_that_a_receiver_can_change_over() {
        let other = SecretString::from("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let alone = |secret: SecretString| sign(&[secret], ID, 1, BODY).unwrap();
        let both = sign(&[other.clone(), SECRET.into()], ID, 1, BODY).unwrap();
        assert_eq!(both, format!("{} {}", alone(other), alone(SECRET.into())));
        assert_eq!(sign(&[], ID, 1, BODY), None);
        assert_eq!(sign(&["whsec_no base64".into()], ID, 1, BODY), None);
    }
}
