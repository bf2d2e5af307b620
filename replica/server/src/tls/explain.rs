//! Why a handshake failed and what to do about it, in words for a log.

use rustls::AlertDescription as Alert;
use rustls::{CertificateError, Error};

/// The reason inside an error of a TLS connection; none if it is not about TLS.
#[must_use]
pub fn explain(error: &std::io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::NoCertificatesPresented => {
            "it shows no certificate, and one is required: give it one that an authority of the CA file has signed".to_owned()
        }
        Error::InvalidCertificate(reason) => certificate(reason),
        Error::AlertReceived(alert) => alerted(*alert),
        Error::InvalidMessage(_) => {
            "what it says is not TLS: either it has no TLS here and needs it, or this side has to do without".to_owned()
        }
        other => other.to_string(),
    })
}

fn certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by an authority that the CA file here does not hold".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired: renew it ({reason})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet: compare the clocks ({reason})")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this purpose: peers need serverAuth and clientAuth, clients clientAuth"
                .to_owned()
        }
        CertificateError::Other(reason) => format!("its certificate {}", reason.0),
        other => format!("its certificate is refused: {other}"),
    }
}

fn alerted(alert: Alert) -> String {
    let what = match alert {
        Alert::UnknownCA => "it does not trust the authority that signed this side's certificate",
        Alert::CertificateRequired => "it requires a certificate and was shown none",
        Alert::CertificateExpired => "it finds this side's certificate expired",
        Alert::CertificateUnknown
        | Alert::BadCertificate
        | Alert::AccessDenied
        | Alert::UnsupportedCertificate => {
            "it refuses this side's certificate, perhaps because of whom that names; its log says why"
        }
        _ => return format!("it ended the handshake with {alert:?}; its log says why"),
    };
    format!("{what} ({alert:?})")
}
