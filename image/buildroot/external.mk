# The workspace that this folder is a part of: every package of ours is built from it.
ALIAOS_WORKSPACE = $(realpath $(BR2_EXTERNAL_ALIAOS_PATH)/../..)
ALIAOS_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' $(ALIAOS_WORKSPACE)/Cargo.toml | head -n 1)
# What cargo and the image builder leave there, and the user's keys, are no source.
ALIAOS_EXCLUSIONS = --exclude /target --exclude /.cache --exclude /keys --exclude /fuzz

include $(sort $(wildcard $(BR2_EXTERNAL_ALIAOS_PATH)/package/*/*.mk))
