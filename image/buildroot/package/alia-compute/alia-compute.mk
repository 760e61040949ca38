################################################################################
#
# alia-compute
#
################################################################################

ALIA_COMPUTE_VERSION = $(ALIAOS_VERSION)
ALIA_COMPUTE_SITE = $(ALIAOS_WORKSPACE)
ALIA_COMPUTE_SITE_METHOD = local
ALIA_COMPUTE_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(ALIAOS_EXCLUSIONS)
ALIA_COMPUTE_LICENSE = Apache-2.0
ALIA_COMPUTE_LICENSE_FILES = LICENSE
# legal-info would pack the whole folder, the keys in it too.
ALIA_COMPUTE_REDISTRIBUTE = NO

define ALIA_COMPUTE_BUILD_CMDS
	$(call ALIAOS_CARGO_BUILD,--release -p compute)
endef

define ALIA_COMPUTE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/compute \
		$(TARGET_DIR)/usr/bin/compute
endef

$(eval $(cargo-package))
