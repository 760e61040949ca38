################################################################################
#
# alia-ledger
#
################################################################################

ALIA_LEDGER_VERSION = $(ALIAOS_VERSION)
ALIA_LEDGER_SITE = $(ALIAOS_WORKSPACE)
ALIA_LEDGER_SITE_METHOD = local
ALIA_LEDGER_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(ALIAOS_EXCLUSIONS)
ALIA_LEDGER_LICENSE = Apache-2.0
ALIA_LEDGER_LICENSE_FILES = LICENSE
# legal-info would pack the whole folder, the keys in it too.
ALIA_LEDGER_REDISTRIBUTE = NO

define ALIA_LEDGER_BUILD_CMDS
	$(call ALIAOS_CARGO_BUILD,--release -p abci-app)
endef

define ALIA_LEDGER_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/abci-app \
		$(TARGET_DIR)/usr/bin/abci-app
endef

$(eval $(cargo-package))
