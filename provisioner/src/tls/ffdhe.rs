//! Key exchange without elliptic curves: finite-field Diffie-Hellman in the groups of RFC 7919, for
//! TLS 1.2 and for firmware that knows nothing newer (Debian's OVMF).
//!
//! The arithmetic is `crypto-bigint`'s, in constant time where secrets are in it; ciphers, hashes and
//! signatures are those that all others get. Each exchange has keys of its own: what was recorded is
//! worth nothing to who steals our certificate's key later.

use aws_lc_rs::rand::fill;
use crypto_bigint::{
    BoxedUint, Odd,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use rustls::{
    CipherSuite, CipherSuiteCommon, Error, NamedGroup, PeerMisbehaved, SupportedCipherSuite,
    Tls12CipherSuite,
    crypto::{
        ActiveKeyExchange, CryptoProvider, KeyExchangeAlgorithm, SharedSecret, SupportedKxGroup,
        aws_lc_rs::{
            cipher_suite::{
                TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            },
            default_provider,
        },
    },
    ffdhe_groups::{self, FfdheGroup},
    server::ClientHello,
};
use std::{cmp::Ordering, fmt, sync::LazyLock};
use zeroize::Zeroizing;

/// Bytes of a secret exponent: twice the strength of either group and more (RFC 7919, appendix A,
/// asks for 275 and 325 bits).
const SECRET_LEN: usize = 48;

/// 128 bits of security, which EDK2 wants.
static FFDHE3072: Group = Group::new(NamedGroup::FFDHE3072, ffdhe_groups::FFDHE3072, || {
    parameters(&ffdhe_groups::FFDHE3072)
});
static FFDHE4096: Group = Group::new(NamedGroup::FFDHE4096, ffdhe_groups::FFDHE4096, || {
    parameters(&ffdhe_groups::FFDHE4096)
});

/// The first is what a client gets that names none.
static GROUPS: [&Group; 2] = [&FFDHE3072, &FFDHE4096];

static AES_256: Tls12CipherSuite = without_curves(
    CipherSuite::TLS_DHE_RSA_WITH_AES_256_GCM_SHA384,
    &TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
);
static AES_128: Tls12CipherSuite = without_curves(
    CipherSuite::TLS_DHE_RSA_WITH_AES_128_GCM_SHA256,
    &TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
);

/// A suite with another key exchange, and its name.
const fn without_curves(name: CipherSuite, like: &SupportedCipherSuite) -> Tls12CipherSuite {
    let SupportedCipherSuite::Tls12(like) = like else { panic!("a suite of TLS 1.2 is wanted") };
    Tls12CipherSuite {
        common: CipherSuiteCommon { suite: name, ..like.common },
        kx: KeyExchangeAlgorithm::DHE,
        ..**like
    }
}

/// These suites and groups, and nothing else.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: [&AES_256, &AES_128].map(SupportedCipherSuite::Tls12).into(),
        kx_groups: GROUPS.iter().map(|group| group as &dyn SupportedKxGroup).collect(),
        ..default_provider()
    }
}

/// Whether a client can do no better: it offers none of the curves, and one of these suites.
pub fn is_all_that(hello: &ClientHello<'_>) -> bool {
    let curve = |group: &NamedGroup| group.key_exchange_algorithm() == KeyExchangeAlgorithm::ECDHE;
    let groups = hello.named_groups().unwrap_or_default();
    let ours = |suite: &CipherSuite| [&AES_256, &AES_128].iter().any(|s| s.common.suite == *suite);
    !groups.iter().any(curve) && hello.cipher_suites().iter().any(ours)
}

/// A group.
struct Group {
    name: NamedGroup,
    numbers: FfdheGroup<'static>,
    parameters: LazyLock<Option<BoxedMontyParams>>,
}

/// What computing in a group needs; none where its modulus is even, which no prime is.
fn parameters(numbers: &FfdheGroup<'_>) -> Option<BoxedMontyParams> {
    let modulus = BoxedUint::from_be_slice(numbers.p, bits(numbers)).ok()?;
    Option::from(Odd::new(modulus)).map(BoxedMontyParams::new_vartime)
}

/// The modulus's length.
fn bits(numbers: &FfdheGroup<'_>) -> u32 {
    // At most 8192.
    8 * numbers.p.len() as u32
}

impl Group {
    const fn new(
        name: NamedGroup,
        numbers: FfdheGroup<'static>,
        parameters: fn() -> Option<BoxedMontyParams>,
    ) -> Self {
        Self { name, numbers, parameters: LazyLock::new(parameters) }
    }

    /// `base` to the power of a secret, big-endian and as long as the modulus.
    fn power(&self, base: &[u8], secret: &[u8; SECRET_LEN]) -> Result<Vec<u8>, Error> {
        let broken = |what: &str| Error::General(format!("{:?}: {what}", self.name));
        let parameters = self.parameters.as_ref().ok_or_else(|| broken("no odd modulus"))?;
        let base = BoxedUint::from_be_slice(base, bits(&self.numbers));
        let base = base.map_err(|_| broken("longer than the modulus"))?;
        let secret = BoxedUint::from_be_slice(secret, 8 * SECRET_LEN as u32);
        let secret = Zeroizing::new(secret.map_err(|_| broken("no exponent"))?);
        let power = Zeroizing::new(BoxedMontyForm::new(base, parameters).pow(&secret).retrieve());
        Ok(power.to_be_bytes().into())
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)
    }
}

impl SupportedKxGroup for &'static Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        fill(&mut *secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        let public = self.power(self.numbers.g, &secret)?;
        Ok(Box::new(Exchange { group: self, secret, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        Some(self.numbers)
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

/// An exchange under way.
struct Exchange {
    group: &'static Group,
    secret: Zeroizing<[u8; SECRET_LEN]>,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = judged(peer, self.group.numbers.p).ok_or(PeerMisbehaved::InvalidKeyShare)?;
        Ok(self.group.power(peer, &self.secret)?.into())
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        Some(self.group.numbers)
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        self.group.name
    }
}

/// A public key without zeros in front, where it is more than 1 and less than the modulus less 1 (RFC
/// 7919, 5.1): those at either end, and 0, make a secret that everybody knows.
fn judged<'a>(public: &'a [u8], modulus: &[u8]) -> Option<&'a [u8]> {
    let zeros = public.iter().take_while(|&&byte| byte == 0).count();
    let public = &public[zeros..];
    // A modulus ends with a byte of ones here, so that less 1 changes that byte alone.
    let (last, rest) = modulus.split_last()?;
    let highest = [rest, &[last - 1]].concat();
    let below = match public.len().cmp(&highest.len()) {
        Ordering::Less => true,
        Ordering::Equal => public < &highest[..],
        Ordering::Greater => false,
    };
    (below && public > &[1][..]).then_some(public)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
mod tests {
    use super::*;

    #[test]
    fn two_sides_come_to_the_same_secret_and_no_two_exchanges_do() {
        for group in &GROUPS {
            let [a, b, c] = [(); 3].map(|()| group.start().unwrap());
            let publics = [&a, &b, &c].map(|side| side.pub_key().to_vec());
            assert!(publics.iter().all(|public| public.len() == group.numbers.p.len()));
            let at_a = a.complete(&publics[1]).unwrap();
            let at_b = b.complete(&publics[0]).unwrap();
            let at_c = c.complete(&publics[0]).unwrap();
            assert_eq!(at_a.secret_bytes(), at_b.secret_bytes());
            assert_ne!(at_a.secret_bytes(), at_c.secret_bytes());
        }
    }

    #[test]
    fn powers_are_what_they_are() {
        let mut secret = [0; SECRET_LEN];
        secret[SECRET_LEN - 2] = 1;
        let power = FFDHE3072.power(&[2], &secret).unwrap();
        let mut expected = vec![0; 384];
        // 2 to the power of 256.
        expected[384 - 33] = 1;
        assert_eq!(power, expected);
    }

    #[test]
    fn public_keys_that_make_a_known_secret_are_refused() {
        let modulus = FFDHE3072.numbers.p;
        let with_last = |last: u8| {
            let mut number = modulus.to_vec();
            *number.last_mut().unwrap() = last;
            number
        };
        let longer = [&[1][..], modulus].concat();
        for bad in [&[][..], &[0], &[1], &[0, 0, 1], modulus, &with_last(0xfe), &longer] {
            assert_eq!(judged(bad, modulus), None, "{bad:?}");
            assert!(GROUPS[0].start().unwrap().complete(bad).is_err());
        }
        for good in [&[2][..], &[1, 0], &with_last(0xfd)] {
            assert_eq!(judged(good, modulus), Some(good));
            assert_eq!(judged(&[&[0; 9], good].concat(), modulus), Some(good));
            assert!(GROUPS[0].start().unwrap().complete(&[&[0; 9], good].concat()).is_ok());
        }
    }
}
