//! Protobuf as tonic encodes it, in buffers that fit most of etcd's requests.
//!
//! tonic allocates a buffer for the request and another for the answer of every call, of 8 KiB each. A put of 256 bytes
//! needs a few hundred, and what is in flight at once no longer fits a core's cache: with 1,000 puts in flight that was
//! a good part of the memory that the kernel had to clear. A buffer grows where a message is larger.

use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Bytes that a buffer begins with.
const BUFFER: usize = 512;
/// Bytes of a stream's messages that leave together, as tonic has it.
const YIELD_THRESHOLD: usize = 32 << 10;

pub(crate) struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> SmallCodec<T, U> {
        SmallCodec(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SmallCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }
}
