# The workspace that this folder is a part of: every package of ours is built from it.
ALIAOS_WORKSPACE = $(realpath $(BR2_EXTERNAL_ALIAOS_PATH)/../..)
ALIAOS_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' $(ALIAOS_WORKSPACE)/Cargo.toml | head -n 1)
# What cargo and the image builder leave there, and the user's keys, are no source.
ALIAOS_EXCLUSIONS = --exclude /target --exclude /.cache --exclude /keys --exclude /fuzz

# Builds a member. Its profile is the workspace's own, so Buildroot's settings of it are left out;
# its crates are those of Cargo.lock, fetched before (a package built from a folder vendors none).
# So are its C flags: one of the crates has a file that must not be optimised.
# $(1): cargo's arguments. $(2): more environment.
define ALIAOS_CARGO_BUILD
	cd $(@D) && \
	$(TARGET_MAKE_ENV) \
		CC="$(TARGET_CC)" AR="$(TARGET_CROSS)ar" \
		$(filter-out CARGO_PROFILE_%,$(PKG_CARGO_ENV)) \
		CARGO_HOME=$(ALIA_CARGO_HOME) \
		$(2) \
		cargo build --offline --locked $(1)
endef

include $(sort $(wildcard $(BR2_EXTERNAL_ALIAOS_PATH)/package/*/*.mk))
