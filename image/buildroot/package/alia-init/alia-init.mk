################################################################################
#
# alia-init
#
################################################################################

ALIA_INIT_VERSION = $(ALIAOS_VERSION)
ALIA_INIT_SITE = $(ALIAOS_WORKSPACE)
ALIA_INIT_SITE_METHOD = local
ALIA_INIT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(ALIAOS_EXCLUSIONS)
ALIA_INIT_LICENSE = Apache-2.0
ALIA_INIT_LICENSE_FILES = LICENSE
# legal-info would pack the whole folder, the keys in it too.
ALIA_INIT_REDISTRIBUTE = NO

define ALIA_INIT_BUILD_CMDS
	$(call ALIAOS_CARGO_BUILD,--profile init -p node-init,\
		CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static")
endef

define ALIA_INIT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/init/node-init $(TARGET_DIR)/init
endef

$(eval $(cargo-package))
