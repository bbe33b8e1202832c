"""The catalog: traits, domains, pressures, personas, arms and eval suites as data, and what loads and checks them."""

from traitrl.catalog.check import check_catalog as check_catalog
from traitrl.catalog.loader import PACKAGE_DATA as PACKAGE_DATA
from traitrl.catalog.loader import Catalog as Catalog
from traitrl.catalog.loader import Problem as Problem
from traitrl.catalog.loader import load_catalog as load_catalog
