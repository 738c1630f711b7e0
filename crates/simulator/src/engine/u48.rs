//! Numbers of six bytes.

use super::Millis;

/// A number of 48 bits, for fields of which there are tens of millions. Larger numbers become the largest.
///
/// A time in milliseconds has 8,900 years; the largest number is [`Millis::NEVER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct U48([u8; 6]);

const LARGEST: u64 = (1 << 48) - 1;

impl U48 {
    pub(crate) const NEVER: Self = Self([u8::MAX; 6]);
}

impl From<u64> for U48 {
    fn from(number: u64) -> Self {
        let [_, _, bytes @ ..] = number.min(LARGEST).to_be_bytes();
        Self(bytes)
    }
}

impl From<U48> for u64 {
    fn from(U48(bytes): U48) -> Self {
        bytes.into_iter().fold(0, |number, byte| number << 8 | Self::from(byte))
    }
}

impl From<Millis> for U48 {
    fn from(time: Millis) -> Self {
        time.0.into()
    }
}

impl From<U48> for Millis {
    fn from(number: U48) -> Self {
        match number.into() {
            LARGEST => Self::NEVER,
            time => Self(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, u64::from(u32::MAX) + 7, 0x1234_5678_9abc, LARGEST - 1, LARGEST] {
            assert_eq!(u64::from(U48::from(number)), number);
        }
        assert_eq!(u64::from(U48::from(LARGEST + 1)), LARGEST);
        assert_eq!(Millis::from(U48::from(Millis::NEVER)), Millis::NEVER);
        assert_eq!(Millis::from(U48::NEVER), Millis::NEVER);
        assert_eq!(Millis::from(U48::from(Millis(LARGEST - 1))), Millis(LARGEST - 1));
    }
}
