// FIPS 180-4 / NIST example vectors.
#include "core/io/sha256.h"

#include <gtest/gtest.h>

namespace sinter {
namespace {

TEST(Sha256, NistVectors) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
                   "mnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around the two padding cases, cut into two pieces at every place.
TEST(Sha256, PiecesGiveTheDigestOfTheWhole) {
  std::string text;
  for (int length = 0; length <= 140; ++length, text += static_cast<char>(length * 7)) {
    const std::string whole = sha256(text);
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      Sha256 hash;
      hash.update(text.data(), cut);
      hash.update(text.data() + cut, text.size() - cut);
      ASSERT_EQ(hash.hex_digest(), whole) << length << " bytes cut at " << cut;
    }
  }
}

}  // namespace
}  // namespace sinter
